"""The self-test: passes on its own bundle, and fails by the right amount when something is off."""

import numpy as np
import pytest

from firmware_host.bench import bench
from firmware_host.bundle import BundleError, DeviceError, read_bundle, write_manifest
from firmware_host.runtime import Feature, Runtime, find_runtime, open_backbone
from firmware_host.selftest import _best_match, _Golden, selftest

REFERENCES = ("tflite_runtime", "ai_edge_litert")


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
        "reference": "ai_edge_litert",
        "backbone_max_quanta": 0.0,
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
    golden = _Golden(opened)
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
    message = f"golden.npz lacks '{named}', no self-test without: convert with tflite/convert.py"
    with pytest.raises(BundleError, match=message):
        selftest(read_bundle(bundle), Runtime("numpy", None))


@pytest.mark.parametrize("image", [np.zeros((2, 9, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8), np.zeros(3)])
def test_other_golden_images_are_refused(bundle, runtime, image):
    with pytest.raises(BundleError, match=r"golden.npz: image is .*: convert with tflite/convert.py"):
        selftest(changed(bundle, image=image), runtime)


def test_a_recorded_quantum_widens_what_a_float_feature_may_be_off(bundle, runtime):
    golden = read_bundle(bundle).arrays("golden.npz")
    feature = {f"feature.{name}": golden[f"feature.{name}"].astype(np.float32) for name in REFERENCES}

    def backbone(image):
        index = int(np.flatnonzero((golden["image"] == image).all(axis=(1, 2, 3)))[0])
        raw = feature["feature.ai_edge_litert"][index] + np.float32(0.05)
        return Feature(raw, raw[None], int(golden["prompt.ai_edge_litert"][index]))

    for quantum, quanta in ((None, 500.0), (0.1, 0.5), (0.02, 2.5)):
        arrays = feature if quantum is None else {**feature, "quantum": np.float32(quantum)}
        match = _best_match(backbone, _Golden(changed(bundle, **arrays)), "ai_edge_litert")
        assert match.quanta == pytest.approx(quanta, rel=1e-3)


@pytest.mark.parametrize("quantum", [0.0, -1.0, np.nan, np.inf])
def test_a_quantum_that_is_none_is_refused(bundle, runtime, quantum):
    with pytest.raises(BundleError, match=r"golden.npz: quantum is .*, not above 0: convert with"):
        selftest(changed(bundle, quantum=np.float32(quantum)), runtime)


def test_bench_measures(bundle, runtime):
    result = bench(read_bundle(bundle), runtime, repeat=3)
    assert (result["runtime"], result["threads"], result["repeat"]) == ("numpy", 1, 3)
    assert 0 < result["backbone_ms"] < 1000
    assert 0 < result["train_ms"] < 1000
    assert result["predict_ms"] > 0
    assert 1 < result["peak_memory_mb"] < 100_000
    with pytest.raises(DeviceError, match="repeat is 0"):
        bench(read_bundle(bundle), runtime, repeat=0)
