"""Islands of float32: in the model, and in the file that is made of it."""

import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cbpnet.export import verify
from keras_cbpnet.export.backbone import computed_by, convert
from keras_cbpnet.export.runtimes import run_backbone
from keras_cbpnet.export.tflite_file.feature import feature_as_in
from keras_cbpnet.export.tflite_file.islands import OPERATORS, float_islands
from keras_cbpnet.export.tflite_file.ops import op_table
from keras_cbpnet.layers.fake_quant import fake_quantizers, float32, set_mode
from keras_cbpnet.layers.islands import islands_in_float
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.calibration import calibrate

SIDE = 48  # 145 tokens: enough for the two parts of `Attend`


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def backbone(images):
    keras.utils.set_random_seed(0)
    config = {"image_size": SIDE, "width": 16, "heads": 2, "depth": 2, "mlp_width": 32}
    backbone = Backbone(config, quantized=True)
    backbone.build()
    calibrate(backbone, backbone.features, images)
    set_mode(backbone, "on")
    return backbone


@pytest.fixture(scope="module")
def files(backbone, images):
    """files(recipe): the file, made when it is first asked for."""

    class Graph(tf.Module):
        def __init__(self):
            super().__init__()
            self.backbone = backbone

        def __call__(self, image):
            return {"feature": backbone.features(image)}

    made = {}

    def file(recipe):
        if recipe not in made:
            with computed_by(recipe, backbone):
                made[recipe] = convert(Graph(), SIDE, recipe, images)
        return made[recipe]

    return file


def features(backbone, images):
    return np.asarray(backbone.features(images))


def test_inside_the_islands_nothing_is_rounded(backbone, images):
    before = features(backbone, images)
    modes = [layer.mode for layer in fake_quantizers(backbone)]
    with float32(backbone):
        plain = features(backbone, images)
    with islands_in_float(backbone):
        with islands_in_float(backbone):
            found = features(backbone, images)
        np.testing.assert_array_equal(features(backbone, images), found)
        off = [layer.path for layer in fake_quantizers(backbone) if layer.mode == "off"]
    assert [layer.mode for layer in fake_quantizers(backbone)] == modes
    np.testing.assert_array_equal(features(backbone, images), before)
    assert 0 < np.abs(found - plain).mean() < np.abs(before - plain).mean()
    names = sorted(path.split("/")[-1] for path in off)
    parts = ["coarse", "coarse_context", "fine", "fine_context"]
    assert names == sorted(2 * ["at_scores", "at_sum1", "at_sum2", *parts] + ["sum"])


@pytest.mark.slow
def test_a_file_has_int8_dense_layers_between_islands(files):
    table = op_table(files("mixed"))
    types = {row["op"]: row["type"] for row in table if row["op"] not in ("QUANTIZE", "RESHAPE", "STRIDED_SLICE")}
    assert {types[name] for name in ("FULLY_CONNECTED", "CONV_2D", "LOGISTIC")} == {"INT8"}
    assert {types[name] for name in ("ADD", "BATCH_MATMUL", "SOFTMAX", "SUM", "RSQRT", "DEQUANTIZE")} == {"FLOAT32"}
    assert {row["op"] for row in table if row["type"] == "FLOAT32"} <= OPERATORS
    counts = {name: sum(row["count"] for row in table if row["op"] == name) for name in ("BATCH_MATMUL", "SOFTMAX")}
    assert counts == {"BATCH_MATMUL": 4, "SOFTMAX": 2}  # one product with the values, where int8 has two parts
    verify.check_ops({"file": table}, {"file": "mixed"})
    verify.check_weights({"file": files("mixed")}, {"file": "mixed"})
    # An int8 file's own operators make islands, too; what is in float stays as it is.
    assert {row["op"] for row in op_table(float_islands(files("int8"))) if row["type"] == "FLOAT32"} <= OPERATORS
    assert op_table(float_islands(files("mixed"))) == table


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["ai_edge_litert", "tflite_runtime"])
def test_a_file_computes_what_the_model_does(files, backbone, images, runtime):
    if not importlib.util.find_spec(runtime):
        pytest.skip(f"{runtime} is not installed")
    found = run_backbone(files("mixed"), images, runtime)
    with computed_by("mixed", backbone):
        expected = features(backbone, images)
    step = np.ptp(expected) / 255
    assert np.abs(found.feature - expected).mean() < 2 * step
    assert verify.mean_cosine(found.feature, expected) > 0.999
    assert found.raw.dtype == np.int8


@pytest.mark.slow
def test_a_float_feature_is_stored_as_that_of_the_int8_file(files, images):
    plain = run_backbone(files("hybrid"), images, "ai_edge_litert").feature
    integer = run_backbone(files("int8"), images, "ai_edge_litert")
    found = run_backbone(feature_as_in(files("hybrid"), files("int8")), images, "ai_edge_litert")
    assert found.raw.dtype == integer.raw.dtype == np.int8
    step = float(np.diff(np.unique(found.feature)).min())
    inside = np.abs(found.raw.astype(int)) < 127  # beyond, the range ends
    assert np.abs(found.feature - plain)[inside].max() <= 0.5001 * step
    assert inside.mean() > 0.9
