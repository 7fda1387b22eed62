"""The self-test: passes on its own bundle, and fails by the right amount when something is off."""

import time

import numpy as np
import pytest

from firmware_host.bench import bench
from firmware_host.bundle import BundleError, DeviceError, read_bundle, write_manifest
from firmware_host.engines.backbone import Backbone, Feature
from firmware_host.engines.find import Runtime, find_runtime, open_backbone, recipe_of
from firmware_host.selftest import MAX_ERROR_RATIO, MAX_QUANTA, _best_match, _Golden, selftest
from firmware_host.shared.runtimes import RUNTIMES, interpreters

REFERENCES = interpreters()


@pytest.fixture(scope="module")
def runtime():
    return find_runtime("numpy")


def changed(bundle, **arrays):
    opened = read_bundle(bundle)
    np.savez(bundle / "golden.npz", **{**opened.arrays("golden.npz"), **arrays})
    write_manifest(bundle, opened.manifest)
    return read_bundle(bundle)


def test_an_unchanged_bundle_passes(bundle, runtime):
    assert selftest(read_bundle(bundle), runtime) == {
        "ok": True,
        "runtime": "numpy",
        "recipe": "int8",
        "reference": "ai_edge_litert",
        "backbone_max_quanta": 0.0,
        "feature_error_ratio": None,
        "prompts_equal": True,
        "head_max_error": 0.0,
        "replaced_equal": True,
        "images": 4,
        "steps": 3,
    }


@pytest.mark.parametrize(
    ("name", "difference", "key", "value", "ok"),
    [
        ("train.loss", 5e-6, "head_max_error", 5e-6, True),
        ("train.loss", 2e-5, "head_max_error", 2e-5, False),
        ("train.loss", np.nan, "head_max_error", None, False),
        ("infer.logits", 1, "head_max_error", 1 / 20, False),
        ("infer.logits", 1e-4, "head_max_error", 5e-6, True),
        ("infer.logits", 3e-4, "head_max_error", 1.5e-5, False),
        ("infer.probabilities", 0.5, "head_max_error", 0.5, False),
        ("final.b2", 0.25, "head_max_error", 0.25, False),
        ("train.replaced", 1, "replaced_equal", False, False),
    ],
)
def test_a_difference_is_measured(bundle, runtime, name, difference, key, value, ok):
    golden = read_bundle(bundle).arrays("golden.npz")[name].copy()
    golden.reshape(-1)[0] += np.asarray(difference, golden.dtype)
    result = selftest(changed(bundle, **{name: golden}), runtime)
    assert result["ok"] is ok
    assert result[key] == (value if value is None else pytest.approx(value, rel=0.1))


@pytest.mark.parametrize(("block", "logit_scale"), [("mlp", 20.0), ("prototype", 0.5)])
def test_only_logits_that_were_scaled_up_are_scaled_back(make, tmp_path, runtime, block, logit_scale):
    bundle = make.write_bundle(tmp_path / "b", block=block, logit_scale=logit_scale)
    logits = read_bundle(bundle).arrays("golden.npz")["infer.logits"] + np.float32(1)
    result = selftest(changed(bundle, **{"infer.logits": logits}), runtime)
    assert result["head_max_error"] == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(
    ("tflite_runtime", "ai_edge_litert", "expected"),  # of each: quanta off, prompts off
    [
        ((0, 0), (9, 0), ("tflite_runtime", 0.0, True, True)),
        ((9, 0), (1, 0), ("ai_edge_litert", 1.0, True, True)),
        ((-2, 0), (3, 0), ("tflite_runtime", 2.0, True, False)),
        ((0, 1), (1, 0), ("ai_edge_litert", 1.0, True, True)),
        ((0, 1), (5, 0), ("ai_edge_litert", 5.0, True, False)),
        ((1, 1), (0, 1), ("ai_edge_litert", 0.0, False, False)),
    ],
)
def test_the_backbone_is_compared_with_the_runtime_it_agrees_with(
    bundle, runtime, tflite_runtime, ai_edge_litert, expected
):
    golden = read_bundle(bundle).arrays("golden.npz")
    arrays = {}
    for name, (quanta, prompts) in (("tflite_runtime", tflite_runtime), ("ai_edge_litert", ai_edge_litert)):
        for kind, difference in (("feature", quanta), ("prompt", prompts)):
            arrays[f"{kind}.{name}"] = value = golden[f"{kind}.{name}"].copy()
            value.reshape(-1)[0] += np.asarray(difference, value.dtype)
    result = selftest(changed(bundle, **arrays), runtime)
    keys = ("reference", "backbone_max_quanta", "prompts_equal", "ok")
    assert tuple(result[key] for key in keys) == expected


def test_of_equal_references_the_runtimes_own_is_named(bundle):
    opened = read_bundle(bundle)
    backbone = open_backbone(opened, find_runtime("auto"))
    golden = _Golden(opened, "int8")
    assert [_best_match(backbone, golden, name).reference for name in sorted(REFERENCES)] == sorted(REFERENCES)


@pytest.mark.parametrize(
    ("without", "named"),
    [
        (("train.loss",), "train.loss"),
        (("image",), "image"),
        (("prompt.tflite_runtime",), "prompt.tflite_runtime"),
        (("feature.tflite_runtime", "feature.ai_edge_litert"), "feature.RUNTIME"),
        (("state.w1",), "state.w1"),
    ],
)
def test_an_incomplete_golden_file_is_refused(bundle, without, named):
    opened = read_bundle(bundle)
    arrays = {name: value for name, value in opened.arrays("golden.npz").items() if name not in without}
    np.savez(bundle / "golden.npz", **arrays)
    write_manifest(bundle, opened.manifest)
    message = f"golden.npz lacks '{named}', which the self-test needs: convert with tflite/convert.py"
    with pytest.raises(BundleError, match=message):
        selftest(read_bundle(bundle), Runtime("numpy", None, RUNTIMES["numpy"]))


@pytest.mark.parametrize("image", [np.zeros((2, 9, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8), np.zeros(3)])
def test_other_golden_images_are_refused(bundle, runtime, image):
    with pytest.raises(BundleError, match=r"golden.npz: image is .*: convert with tflite/convert.py"):
        selftest(changed(bundle, image=image), runtime)


class Rounding:
    """A backbone whose features are the recorded ones and `error` more or less, in turns."""

    def __init__(self, golden, error, scale=1.0):
        self.golden, self.scale = golden, np.float32(scale)
        rows = golden["feature.ai_edge_litert"]
        self.features = rows + (error * (-1) ** np.arange(rows.shape[1])).astype(rows.dtype)

    def dequantize(self, raw):
        return raw.astype(np.float32) * self.scale

    def __call__(self, image):
        index = int(np.flatnonzero((self.golden["image"] == image).all(axis=(1, 2, 3)))[0])
        raw = self.features[index]
        return Feature(self.dequantize(raw), raw[None], int(self.golden["prompt.ai_edge_litert"][index]))


def rounded(golden, dtype, **arrays):
    """Recorded features of `dtype` that are within the range of int8 with room on both sides."""
    features = {f"feature.{name}": (golden[f"feature.{name}"] // 2).astype(dtype) for name in REFERENCES}
    return {**golden, **features, **arrays}


@pytest.mark.parametrize(
    ("departure", "error", "quanta", "ratio", "ok"),
    # Recorded features lie `departure` above what the model gives; those found here another `error`, up and down.
    [(0, 1, 1, 5000, True), (4, 2, 2, 1.118, True), (4, 4, 4, 1.414, False), (4, 50, 50, 12.54, False)],
)
def test_a_machine_that_rounds_as_well_as_the_recorded_one_passes(bundle, departure, error, quanta, ratio, ok):
    arrays = rounded(read_bundle(bundle).arrays("golden.npz"), np.int8)
    arrays["expected"] = 0.5 * (arrays["feature.ai_edge_litert"].astype(np.float32) - departure)
    golden = _Golden(changed(bundle, **arrays), "int8")
    match = _best_match(Rounding(arrays, np.int8(error), 0.5), golden, "ai_edge_litert")
    assert (match.quanta, match.error_ratio) == (quanta, pytest.approx(ratio, rel=1e-3))
    assert (match.quanta <= MAX_QUANTA or match.error_ratio <= MAX_ERROR_RATIO) is ok


@pytest.mark.parametrize(("departure", "quanta"), [(0.0, 500.0), (0.2, 0.25), (0.02, 2.5)])
def test_a_float_feature_is_measured_by_what_int8_weights_moved(bundle, departure, quanta):
    arrays = rounded(read_bundle(bundle).arrays("golden.npz"), np.float32)
    arrays["expected"] = arrays["feature.ai_edge_litert"] - np.float32(departure)
    golden = _Golden(changed(bundle, **arrays), "int8")
    match = _best_match(Rounding(arrays, 0.05), golden, "ai_edge_litert")
    assert match.quanta == pytest.approx(quanta, rel=1e-3)


def test_a_feature_that_is_no_number_fails(bundle, runtime):
    arrays = rounded(read_bundle(bundle).arrays("golden.npz"), np.float32)
    arrays["expected"] = arrays["feature.ai_edge_litert"] - np.float32(0.2)
    golden = _Golden(changed(bundle, **arrays), "int8")
    match = _best_match(Rounding(arrays, np.nan), golden, "ai_edge_litert")
    assert (match.quanta, match.error_ratio) == (np.inf, np.inf)


def test_other_expected_features_are_refused(bundle, runtime):
    with pytest.raises(BundleError, match=r"golden.npz: expected is \[3, 6\], not one feature per image: convert"):
        selftest(changed(bundle, expected=np.zeros((3, 6), np.float32)), runtime)


def test_bench_measures(bundle, runtime):
    result = bench(read_bundle(bundle), runtime, repeat=3)
    assert (result["runtime"], result["threads"], result["repeat"]) == ("numpy", 1, 3)
    assert 0 < result["backbone_ms"] < 1000
    assert 0 < result["train_ms"] < 1000
    assert result["predict_ms"] > 0
    assert 1 < result["peak_memory_mb"] < 100_000
    with pytest.raises(DeviceError, match="repeat is 0"):
        bench(read_bundle(bundle), runtime, repeat=0)


@pytest.fixture
def two_backbones(make, bundle):
    """A bundle with a second backbone, `hybrid`; its features are all one more than those of the first."""
    content = bytearray((bundle / "backbone.tflite").read_bytes())
    (bundle / "backbone_hybrid.tflite").write_bytes(content)
    opened = read_bundle(bundle)
    arrays = opened.arrays("golden.npz")
    for name in REFERENCES:
        arrays[f"hybrid.feature.{name}"] = arrays[f"feature.{name}"] + np.int8(1)
        arrays[f"hybrid.prompt.{name}"] = arrays[f"prompt.{name}"]
    np.savez(bundle / "golden.npz", **arrays)
    write_manifest(
        bundle, {**opened.manifest, "backbones": {"hybrid": "backbone_hybrid.tflite"}}, ["backbone_hybrid.tflite"]
    )
    return read_bundle(bundle)


def test_each_backbone_is_held_to_its_own_outputs(two_backbones):
    for recipe, quanta in (("int8", 0.0), ("hybrid", 1.0)):
        found = selftest(two_backbones, find_runtime("numpy", recipe))
        assert (found["ok"], found["recipe"], found["backbone_max_quanta"]) == (True, recipe, quanta)
    preferred = {name: RUNTIMES[name].recipe for name in REFERENCES}
    assert preferred == {"ai_edge_litert": "hybrid", "tflite_runtime": None}
    found = find_runtime("numpy")
    assert selftest(two_backbones, found)["recipe"] == (found.preferred or "int8")


def test_bench_names_the_backbone_that_is_fastest_here(make, two_backbones, runtime, monkeypatch):
    class Slow(Backbone):
        def __call__(self, image):
            time.sleep(0.05)
            return super().__call__(image)

    def opening(opened, chosen, *arguments):
        backbone = open_backbone(opened, chosen, *arguments)
        if recipe_of(opened, chosen) != "hybrid":
            backbone.__class__ = Slow
        return backbone

    monkeypatch.setattr("firmware_host.bench.open_backbone", opening)
    found = bench(two_backbones, runtime._replace(recipe="int8"), repeat=1)
    assert [each["recipe"] for each in found["backbones"]] == ["int8", "hybrid"]
    assert found["recipe"] == "int8"
    assert found["backbone_ms"] == found["backbones"][0]["backbone_ms"] >= 50
    assert found["best"] == found["backbones"][1] != found["backbones"][0]
    other = make.write_bundle(two_backbones.path.with_name("other"))
    make.rewrite_manifest(other, lambda manifest: manifest.update(recipe="hybrid"))
    found = bench(two_backbones, runtime, repeat=1, others=[read_bundle(other)])
    assert [each["bundle"] for each in found["backbones"]] == [*2 * [str(two_backbones.path)], str(other)]
