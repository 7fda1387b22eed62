"""Bundles: read as written, refused with one line when anything differs."""

import hashlib
import json
import math

import numpy as np
import pytest

from firmware_host.bundle import BLOCKS, FILES, SCHEMA_VERSION, BundleError, read_bundle, state_shapes, write_manifest
from firmware_host.bundle.contract import axes
from firmware_host.bundle.manifest import HEAD_KEYS, NUMBER


def test_a_bundle_reads_back(bundle):
    opened = read_bundle(bundle)
    assert opened.classes == ("red", "green")
    assert (opened.slots, opened.feature_size, opened.image_size) == (4, 6, (8, 8))
    assert opened.head["block"] == "prototype"
    assert (opened.name, opened.recipe) == ("tiny", "int8")
    assert opened.state_shapes["class_mean"] == (4, 6)
    assert opened.manifest["schema_version"] == SCHEMA_VERSION
    assert sorted(opened.manifest["sha256"]) == sorted(set(FILES) - {"manifest.json"})
    assert opened.identity == opened.manifest["manifest_sha256"]
    assert opened.files == ("manifest.json", *sorted(set(FILES) - {"manifest.json"}))


@pytest.mark.parametrize(
    ("block", "extra", "w2"),
    [("prototype", [], (3, 5)), ("mlp", [], (3, 7)), ("residual", ["w3", "b3"], (3, 5))],
)
def test_state_shapes_follow_the_block(block, extra, w2):
    shapes = state_shapes(block, 5, 3, 7)
    weights = ["w1", "b1", "w2", "b2", *extra]
    slots = [f"{slot}_{name}" for slot in "mv" for name in weights]
    rest = ["step", "utility", "mean_activation", "age", "replacement_debt", "class_mask", "class_mean", "class_count"]
    assert list(shapes) == [*weights, *slots, *rest]
    assert shapes["w2"] == shapes["m_w2"] == shapes["v_w2"] == w2
    assert shapes["b2"] == w2[1:]
    assert shapes["step"] == ()
    if extra:
        assert shapes["w3"] == (5, 7)


@pytest.mark.parametrize(
    ("block", "optimizer", "last"),
    [
        ("prototype", "adam", []),
        ("mlp", "adam", ["w2", "b2"]),
        ("mlp", "sgd", ["w2", "b2"]),
        ("residual", "sgd", ["w3"]),
    ],
)
def test_axes_are_found_by_their_letter(block, optimizer, last):
    classes, units = axes(block, optimizer, "C"), axes(block, optimizer, "h")
    shapes = state_shapes(block, 5, 3, 7, optimizer)
    for letter_axes, size in ((classes, 7), (units, 3)):
        assert letter_axes == {name: shape.index(size) for name, shape in shapes.items() if size in shape}
    assert {"class_mask", "class_mean", "class_count", *last} <= set(classes)
    assert {"w1", "b1", "w2", "utility", "mean_activation", "age"} <= set(units)
    assert ("m_w1" in units) == (optimizer == "adam")


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_names_only_its_own_tensors(block):
    form = BLOCKS[block]
    assert set(form.adapted) <= set(form.weights)
    assert set(form.last) <= set(form.weights)


def test_an_unknown_block_is_refused():
    with pytest.raises(BundleError, match="unknown block 'dense': use one of prototype, mlp, residual"):
        state_shapes("dense", 1, 1, 1)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing: copy the bundle again"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_changed_byte_is_found_in_every_file(bundle, name, where):
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BundleError, match=name) as error:
        read_bundle(bundle)
    assert "\n" not in str(error.value)


def test_every_changed_byte_of_the_manifest_is_found(bundle):
    path = bundle / "manifest.json"
    content = path.read_bytes()
    for offset in range(len(content)):
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
        with pytest.raises(BundleError):
            read_bundle(bundle)


@pytest.mark.parametrize("change", [lambda text: text + "\n", lambda text: text.replace("\n ", "\n  ", 1)])
def test_white_space_in_the_manifest_counts(bundle, change):
    path = bundle / "manifest.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(BundleError, match=r"manifest.json was changed"):
        read_bundle(bundle)


def test_a_bundle_of_another_program_is_read(make, bundle):
    opened = read_bundle(make.foreign(bundle))
    content = (bundle / "manifest.json").read_bytes()
    assert opened.manifest == json.loads(content)
    assert opened.identity == hashlib.sha256(content).hexdigest()
    assert opened.name == "tiny"  # the folder's
    assert opened.classes == ("red", "green")
    assert "statistics.npz" not in opened.files
    checksums = {name: checksum.upper() for name, checksum in opened.manifest["sha256"].items()}
    (bundle / "manifest.json").write_text(json.dumps({**opened.manifest, "name": "other", "sha256": checksums}))
    again = read_bundle(bundle)
    assert again.name == "other"
    assert again.identity != opened.identity
    assert again.model_identity == opened.model_identity


@pytest.mark.parametrize("name", FILES[1:])
def test_a_changed_byte_is_found_in_a_bundle_of_another_program(make, bundle, name):
    make.foreign(bundle)
    if name == "statistics.npz":
        (bundle / name).write_bytes(b"not in the manifest")
        with pytest.raises(BundleError, match=r"sha256 does not name statistics.npz"):
            read_bundle(bundle)
        return
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=f"{name} was changed"):
        read_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        read_bundle(bundle)


@pytest.mark.parametrize("key", ["manifest_sha255", "Manifest_sha256", "note"])
def test_a_manifest_without_its_checksum_holds_the_contracts_keys_only(bundle, key):
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest[key] = manifest.pop("manifest_sha256")
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    with pytest.raises(BundleError, match=f"manifest.json has no manifest_sha256 and the unknown key '{key}': copy"):
        read_bundle(bundle)


def test_the_model_identity_covers_backbone_and_head_only(make, bundle):
    opened = read_bundle(bundle)
    checksums = opened.manifest["sha256"]
    both = checksums["backbone.tflite"] + checksums["head.tflite"]
    assert opened.model_identity == hashlib.sha256(both.encode()).hexdigest()
    (bundle / "report.json").write_text("{ }")
    write_manifest(bundle, opened.manifest)
    assert read_bundle(bundle).identity != opened.identity
    assert read_bundle(bundle).model_identity == opened.model_identity
    (bundle / "head.tflite").write_text("another head")
    write_manifest(bundle, opened.manifest)
    assert read_bundle(bundle).model_identity != opened.model_identity


def test_labels_that_are_no_text_are_refused(bundle):
    manifest = read_bundle(bundle).manifest
    (bundle / "labels.txt").write_bytes(b"\xff\xfe")
    write_manifest(bundle, manifest)
    with pytest.raises(BundleError, match=r"labels.txt is not UTF-8 text"):
        read_bundle(bundle)


def test_arrays_are_chosen_by_prefix(bundle):
    opened = read_bundle(bundle)
    state = opened.arrays("golden.npz", prefix="state.")
    assert list(state) == list(opened.state_shapes)
    np.testing.assert_array_equal(state["w1"], opened.arrays("golden.npz")["state.w1"])


@pytest.mark.parametrize("version", [0, 3, "1", None, True])
def test_another_schema_version_is_refused_with_the_remedy(make, bundle, version):
    make.rewrite_manifest(bundle, lambda manifest: manifest.update(schema_version=version))
    with pytest.raises(
        BundleError, match=f"schema version {version!r}, this firmware_host reads 1 and 2: convert the run"
    ):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("recipe"), "recipe is missing"),
        (lambda m: m.update(name=3), "name is int, not str"),
        (lambda m: m.update(classes="red"), "classes is str, not list"),
        (lambda m: m["head"].pop("decay_rate"), "head.decay_rate is missing"),
        (lambda m: m["head"].update(slots=True), "head.slots is bool, not int"),
        (lambda m: m["head"].update(slots=1), "2 classes for 1 slots: convert again with a larger --slots"),
        (lambda m: m["head"].update(block="dense"), "head.block is 'dense'"),
        (lambda m: m["head"].update(optimizer="lion"), "head.optimizer is 'lion'"),
        (lambda m: m["head"]["feature_mean"].append(0), "head.feature_mean has 7 numbers for 6 features"),
        (lambda m: m["head"].update(feature_mean=["0"] * 6), "head.feature_mean contains '0': it must be numbers"),
        (lambda m: m["head"].update(feature_mean=[10**400] * 6), "head.feature_mean contains 1000"),
        (
            lambda m: m["head"].update(feature_scale=[1, 1, 0, 1, 1, 1]),
            "head.feature_scale contains 0: it must be above 0",
        ),
        (lambda m: m["head"].update(feature_scale=[1, 1, -2, 1, 1, 1]), "head.feature_scale contains -2"),
        (lambda m: m["dtypes"].pop("prompt"), "must both name 'prompt'"),
        (lambda m: m["dtypes"].update(image="float32"), "dtypes.image is 'float32': it must be uint8"),
        (lambda m: m["dtypes"].update(feature=["int8"]), "dtypes.feature is .*: it must be float32 or int8 or uint8"),
        (lambda m: m["shapes"].update(image="large"), r"shapes.image is 'large'"),
        (lambda m: m["shapes"].update(image=[1, 3, 8, 8]), r"shapes.image is .*: it must be \[1, n, n, 3\]"),
        (lambda m: m.update(classes=[["red"], "green"]), "must be one line of text"),
        (lambda m: m.update(classes=["red", "red"]), "occurs twice"),
        (lambda m: m["sha256"].pop("report.json"), "does not name report.json"),
        (lambda m: m["sha256"].pop("statistics.npz"), "does not name statistics.npz"),
        (lambda m: m["sha256"].update({"../x": "0"}), "not a file of the bundle"),
        (lambda m: m.update(classes=["red", "blue"]), "name different classes"),
        (lambda m: m["head"].update(surprise=20), r"head.surprise is int, not dict"),
        (lambda m: m["head"].update(surprise={"calm": 0}), r"head.surprise.calming is missing"),
        (lambda m: m["head"].update(surprise={"calm": -1, "calming": 0}), r"head.surprise.calm is -1: it must be from"),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_refused(make, bundle, change, message):
    make.rewrite_manifest(bundle, change)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("units", 0, "from 1 on"),
        ("slots", -4, "from 1 on"),
        ("batch", 0, "from 1 on"),
        ("decay_rate", -1, "from 0 to below 1"),
        ("decay_rate", 1, "from 0 to below 1"),
        ("replacement_rate", -0.5, "from 0 on"),
        ("replacement_rate", 2, "at most 1"),
        ("replacement_rate", 0.21, "at most 1"),  # of five units: more than one a step
        ("maturity_threshold", -1, "from 0 on"),
        ("learning_rate", -1e-3, "from 0 on"),
        ("block_rate", -1, "from 0 on"),
        ("logit_scale", -20.0, "from 0 on"),
    ],
)
def test_a_number_outside_its_range_is_refused_by_name(make, bundle, key, value, wanted):
    make.rewrite_manifest(bundle, lambda manifest: manifest["head"].update({key: value}))
    with pytest.raises(BundleError, match=f"^manifest: head.{key} is {value!r}.* must be {wanted}, convert again$"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("key", "value"), [("decay_rate", 0), ("replacement_rate", 0.2), ("maturity_threshold", 0), ("block_rate", 0.0)]
)
def test_the_ends_of_a_range_belong_to_it(make, bundle, key, value):
    make.rewrite_manifest(bundle, lambda manifest: manifest["head"].update({key: value}))
    assert read_bundle(bundle).head[key] == value


@pytest.mark.parametrize("key", [key for key, kinds in HEAD_KEYS.items() if kinds == NUMBER])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**39])
def test_what_is_not_a_finite_number_is_refused_by_name(bundle, key, value):
    manifest = read_bundle(bundle).manifest
    with pytest.raises(BundleError, match=f"^manifest: head.{key} is {value!r}: it must be a float32 number"):
        write_manifest(bundle, {**manifest, "head": {**manifest["head"], key: value}})


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_refused(make, bundle, text):
    path = make.foreign(bundle) / "manifest.json"
    path.write_text(path.read_text().replace("0.99", text))
    with pytest.raises(BundleError, match=r"manifest.json is not a manifest \(Out of range float values"):
        read_bundle(bundle)


def test_the_bundle_must_be_a_folder(tmp_path):
    with pytest.raises(BundleError, match="is not a folder: give the folder that"):
        read_bundle(tmp_path / "none")


def test_writing_a_manifest_needs_every_file_and_leaves_nothing_behind(make, bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "report.json").unlink()
    before = make.tree(bundle)
    with pytest.raises(BundleError, match=r"report.json is missing"):
        write_manifest(bundle, manifest)
    (bundle / "report.json").write_text("{ }")
    with pytest.raises(BundleError, match="one line of text"):
        write_manifest(bundle, {**manifest, "classes": ["a\nb"]})
    (bundle / "report.json").unlink()
    assert make.tree(bundle) == before
    (bundle / "report.json").write_text("{ }")
    written = write_manifest(bundle, manifest)
    assert read_bundle(bundle).manifest == written
    assert written["manifest_sha256"] != manifest["manifest_sha256"]
