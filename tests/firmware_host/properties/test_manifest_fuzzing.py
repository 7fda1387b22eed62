"""One value of manifest.json changed, removed, added or of another type: it is read, or refused with one line.

Its checksum is corrected, as by somebody who edits a bundle, so that the value itself is looked at.
"""

import copy
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_host import Device, DeviceError
from firmware_host.bundle import BundleError, canonical_text, manifest_sha256, read_bundle

QUIET = settings(derandomize=True, deadline=None, max_examples=80)
ODD = [
    None, True, False, -1, 0, 1, 3, 2**31, 10**400, -(10**400), 0.5, -1e308, 1e308, "", "x", ".", "..", "a/b", "a\nb",
    "\0", "\ud800", [], [1], [None], ["x", "x"], [[1]], {}, {"x": 1}, {"": None},
]  # fmt: skip
GONE, TWICE = object(), object()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def spoiled(make, tmp_path_factory):
    """A bundle that may be surprised, and a function that spoils the manifest in one place and reads it."""
    root = tmp_path_factory.mktemp("fuzz")
    bundle = make.write_bundle(root / "b", surprise={"calming": 4.0, "calm": 6.0})
    sound = json.loads((bundle / "manifest.json").read_text())

    def read(path, value):
        manifest = copy.deepcopy(sound)
        place = manifest
        for key in path[:-1]:
            place = place[key]
        if value is GONE:
            del place[path[-1]]
        else:
            place[path[-1]] = copy.deepcopy(value)
        manifest["manifest_sha256"] = manifest_sha256(manifest)
        (bundle / "manifest.json").write_text(canonical_text(manifest))
        return refused(lambda: read_bundle(bundle)), bundle

    read.paths = list(places(sound))
    yield read
    shutil.rmtree(root)


def places(value, path=()):
    """Give the path of every value in a manifest."""
    if path and path != ("manifest_sha256",):
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def refused(call):
    """Return the line that refused a call, None when it was not; any other error is not caught."""
    try:
        call()
    except DeviceError as error:
        return str(error)
    return None


def assert_one_line(line, *what):
    """It is one line, and can be printed anywhere."""
    assert len(line.splitlines()) == 1, (what, line)
    line.encode("utf-8")
    assert "\0" not in line, (what, line)


@pytest.mark.slow
def test_every_value_changed_or_removed_is_read_or_refused_with_one_line(spoiled):
    counted = {"read": 0, "refused": 0}
    for path in spoiled.paths:
        for value in [*ODD, GONE]:
            line, _ = spoiled(path, value)
            counted["read" if line is None else "refused"] += 1
            if line is not None:
                assert_one_line(line, path, value)
    assert counted["read"] > 100
    assert counted["refused"] > 1000


@pytest.mark.slow
def test_what_is_read_can_be_opened_or_is_refused_with_one_line(make, spoiled):
    [image], _ = make.images(["blue"], 1)
    numbers = [("head", key) for key in ("units", "slots", "batch", "decay_rate", "replacement_rate", "learning_rate")]
    numbers += [("head", key) for key in ("maturity_threshold", "block_rate", "logit_scale", "optimizer", "block")]
    numbers += [("head", "surprise", "calm"), ("head", "surprise", "calming"), ("head", "feature_mean", 0)]
    numbers += [("head", "feature_scale", 0), ("shapes", "image", 1), ("shapes", "feature", 1), ("dtypes", "feature")]
    for path in numbers:
        for value in [*ODD, "uint8", "float32", "sgd", "mlp", GONE]:
            line, bundle = spoiled(path, value)
            if line is None:
                with np.errstate(all="ignore"):
                    line = refused(lambda b=bundle: Device.open(b, runtime="numpy").predict(image))
            if line is not None:
                assert_one_line(line, path, value)


@given(st.data())
@QUIET
def test_any_json_in_any_place_is_read_or_refused_with_one_line(spoiled, data):
    path, value = data.draw(st.sampled_from(spoiled.paths)), data.draw(json_values)
    line, _ = spoiled(path, value)
    if line is not None:
        assert_one_line(line, path, value)


@pytest.mark.slow
@given(st.text(max_size=6), json_values)
@QUIET
def test_any_key_more_is_read_or_refused_with_one_line(spoiled, key, value):
    for path in ((key,), ("head", key), ("sha256", key), ("shapes", key)):
        line, _ = spoiled(path, value)
        if line is not None:
            assert_one_line(line, path, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "1",
        '"x"',
        "{",
        "{}",
        "NaN",
        '{"schema_version": NaN}',
        '{"schema_version": 1e999}',
        "\ufeff{}",
    ],
)
def test_a_text_that_is_not_a_manifest_is_refused_with_one_line(bundle, text):
    (bundle / "manifest.json").write_text(text, encoding="utf-8")
    line = refused(lambda: read_bundle(bundle))
    assert_one_line(line, text)
    (bundle / "manifest.json").write_bytes(b"\xff\xfe" + text.encode())
    assert_one_line(refused(lambda: read_bundle(bundle)), text)


def test_nesting_without_end_is_refused_with_one_line(bundle):
    (bundle / "manifest.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(BundleError) as error:
        read_bundle(bundle)
    assert_one_line(str(error.value))
