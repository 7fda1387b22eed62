"""The shipped backbones: their weights are the pinned ones, small enough, and stay in TFLM's op set as int8."""

import importlib.util
import json
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest
from helpers import pin_weights

from keras_cbpnet import Backbone
from keras_cbpnet.data import load_dataset
from keras_cbpnet.presets import PRESETS, get_preset

LIMITS = {  # parameters, multiply-adds of one pass
    "vit_nano_32": (2_000_000, 80_000_000),
    "vit_micro_32": (350_000, 80_000_000),
    "vit_tiny_96": (5_000_000, 250_000_000),
}

TFLM = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_bytes(open(sys.argv[1], "rb").read())
results = []
for image in np.load(sys.argv[2]):
    interpreter.set_input(image[None], 0)
    interpreter.invoke()
    results.append(interpreter.get_output(0))
np.save(sys.argv[3], np.concatenate(results))
"""


def test_the_shipped_presets_are_those_with_a_file():
    assert [name for name in PRESETS if get_preset(name).weights] == list(pin_weights.SHIPPED)
    folder = resources.files("keras_cbpnet") / "weights"
    files = sorted(file.name for file in folder.iterdir())
    assert files == sorted(get_preset(name).weights for name in pin_weights.SHIPPED)
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) <= 16_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", pin_weights.SHIPPED)
def test_weights_do_not_change_silently(name):
    pinned, found = json.loads(pin_weights.PINS.read_text())[name], pin_weights.pin(name)
    assert found["sha256"] == pinned["sha256"]
    np.testing.assert_allclose(found["feature"], pinned["feature"], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", pin_weights.SHIPPED)
def test_sizes_are_within_the_limits(name):
    from benchmarks.parameters import count

    record = count(name, classes=100, tasks=10, units=64)
    parameters, multiply_adds = LIMITS[name]
    assert record["backbone"] <= parameters
    assert record["multiply_adds"] <= multiply_adds
    assert f"{record['backbone']:,}" in PRESETS[name].__doc__


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("tflite_micro"), reason="needs: pip install '.[micro]'")
@pytest.mark.parametrize("name", pin_weights.SHIPPED)
def test_as_int8_it_runs_under_tflm_as_under_litert(name, tmp_path):
    from benchmarks.backbones import int8_file
    from keras_cbpnet.export.runtimes import run_backbone
    from keras_cbpnet.export.tflite_file.ops import custom_ops, float_ops, op_table

    backbone = Backbone.from_preset(name)
    images = load_dataset("digits", backbone.config.image_size).x_train[:96]
    file = int8_file(backbone, images)
    table = op_table(file)
    assert not custom_ops(table)
    assert not float_ops(table)
    images = images[:48]
    (tmp_path / "model.tflite").write_bytes(file)
    np.save(tmp_path / "images.npy", images)
    paths = [str(tmp_path / name) for name in ("model.tflite", "images.npy", "features.npy")]
    subprocess.run([sys.executable, "-c", TFLM, *paths], check=True, capture_output=True)
    wanted = np.asarray(backbone.features(images))
    litert = cosine(run_backbone(file, images, "ai_edge_litert").raw, wanted)
    tflm = cosine(np.load(tmp_path / "features.npy"), wanted)
    assert litert > 0.9
    assert tflm > litert - 0.02


def cosine(found, wanted):
    """Mean cosine of rows, each less the mean row: what images differ in."""
    a, b = (x.astype(np.float32) - x.astype(np.float32).mean(axis=0) for x in (found, wanted))
    return float(np.mean((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))
