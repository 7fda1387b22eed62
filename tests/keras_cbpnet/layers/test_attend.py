"""Attention in two parts: the same sum in floats, finer steps in int8, a file that every runtime runs."""

import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_cbpnet.export import backbone as export_backbone
from keras_cbpnet.export.runtimes import run_backbone
from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.layers.attend import FINE, MANY, PARTS, Attend
from keras_cbpnet.layers.fake_quant import FakeQuantize, fake_quantizers, set_mode
from keras_cbpnet.layers.no_prompts import NoPrompts
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.calibration import calibrate
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

# Dimensions: B images, H heads, M keys and queries, E width of a head.
B, H, M, E, SIDE = 2, 2, 144, 8, 12
IN_TFLM = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_bytes(open(sys.argv[1], "rb").read(), arena_size=1 << 22)
found = []
for image in np.load(sys.argv[2]):
    interpreter.set_input(image[None], 0)
    interpreter.invoke()
    found.append(interpreter.get_output(0))
np.save(sys.argv[3], np.concatenate(found))
"""


def normal(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def plain(scores, values):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True) @ values


def attend(keys=M):
    layer = Attend(quantized=True)
    layer.build((None, H, keys, keys))
    return layer


def calibrated(layer, scores, values):
    for quantizer in layer.parts.values():
        quantizer.reset()
    set_mode(layer, "calibrate")
    layer(scores, values)
    set_mode(layer, "on")
    return layer


def test_the_two_parts_add_up():
    scores, values = normal(B, H, M, M, scale=3), normal(B, H, M, E, seed=1)
    layer = attend()
    wanted = plain(scores, values)
    np.testing.assert_allclose(layer(scores, values), wanted, atol=1e-5)
    for quantizer in layer.parts.values():
        quantizer.reset()
    set_mode(layer, "calibrate")
    np.testing.assert_allclose(layer(scores, values), wanted, atol=1e-5)
    assert float(layer.parts["fine"].range["max_var"]) == pytest.approx(FINE)
    assert float(layer.parts["coarse"].range["max_var"]) > 0.3


def test_flat_attention_keeps_its_small_probabilities():
    scores, values = normal(B, H, M, M, scale=0.7), normal(B, H, M, E, seed=1)
    scores[..., 0] += 2 * (np.arange(M) % 2)  # every other query looks at one key
    wanted = plain(scores, values)
    found = calibrated(attend(), scores, values)(scores, values)
    power = np.exp(scores - scores.max(axis=-1, keepdims=True))
    eight_bits = np.round(256 * power / power.sum(axis=-1, keepdims=True)) / 256 @ values
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.25 * np.sqrt(np.mean((eight_bits - wanted) ** 2))


def test_few_keys_and_unquantized_layers_have_no_parts():
    assert attend(MANY).parts == {}
    layer = Attend()
    layer.build((None, H, M, M))
    assert layer.parts == {}
    assert Attend.from_config(attend().get_config()).quantized
    for image_size, names in ((32, set()), (64, {"fine", "coarse", "fine_context", "coarse_context"})):
        backbone = Backbone({"image_size": image_size, "width": 8, "heads": 2, "depth": 1, "mlp_width": 8}, True)
        backbone.build()
        found = {v.path.split("/")[-2] for v in backbone.blocks[0].attend.variables}
        assert found == (names if backbone.embedding.tokens > MANY else set())


@pytest.mark.slow
def test_a_saved_model_keeps_its_parts(tmp_path):
    config = {"image_size": 48, "width": 8, "heads": 2, "depth": 1, "mlp_width": 8}  # 145 tokens
    backbone = Backbone(config, quantized=True)
    backbone.build()
    images = np.random.default_rng(2).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    calibrate(backbone, backbone.features, images)
    wanted = np.asarray(backbone.features(images))
    backbone.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert len(again.blocks[0].attend.parts) == 4
    set_mode(again, "on")
    np.testing.assert_array_equal(np.asarray(again.features(images)), wanted)


@pytest.mark.slow
def test_a_loaded_model_rounds_the_parts_too(tmp_path):
    model = PromptedClassifier(
        {"image_size": 48, "width": 8, "heads": 2, "depth": 1, "mlp_width": 8}, NoPrompts(), quantized=True
    )
    model.build()
    set_mode(model, "on")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    parts = again.backbone.blocks[0].attend.parts
    assert {name: part.mode for name, part in parts.items()} == dict.fromkeys(PARTS, "on")
    assert {layer.mode for layer in fake_quantizers(again)} == {"on"}


class Graph(tf.Module):
    """Pixels to what attention takes from them, [1, M E]: one head, whose keys are the pixels."""

    def __init__(self):
        super().__init__()
        self.layer = Attend(quantized=True)
        self.layer.build((None, 1, M, M))
        self.at = [FakeQuantize(name=name) for name in ("query", "value", "scores", "out")]
        for quantizer in self.at:
            quantizer.build((1,))
        self.quantizers = [*self.at, *self.layer.parts.values()]
        self.weights = [tf.Variable(normal(3, E, seed=i, scale=s), trainable=False) for i, s in ((2, 0.01), (3, 0.01))]

    def __call__(self, image):
        x = ops.reshape(image, (1, 1, M, 3)) - 128.0
        query, value = (at(ops.matmul(x, w)) for at, w in zip(self.at, self.weights))
        scores = self.at[2](ops.matmul(query, ops.transpose(query, (0, 1, 3, 2))) * 0.3)
        return {"feature": ops.reshape(self.at[3](self.layer(scores, value)), (1, -1))}

    def mode(self, name):
        for quantizer in self.quantizers:
            quantizer.mode = name


@pytest.fixture(scope="module")
def files():
    """The converted file as the converter gives it, the file as it is shipped, images, outputs in floats."""
    images = np.random.default_rng(4).integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)
    graph = Graph()
    for quantizer in graph.quantizers:
        quantizer.reset()
    graph.mode("calibrate")
    wanted = np.concatenate([graph(image[None].astype(np.float32))["feature"] for image in images])
    graph.mode("on")
    given = []
    with pytest.MonkeyPatch.context() as patch:
        refine = export_backbone.refine
        patch.setattr(export_backbone, "refine", lambda content: given.append(content) or refine(content))
        shipped = export_backbone.convert(graph, SIDE, "int8", images)
    return given[0], shipped, images, wanted


def error(found, wanted):
    return np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["ai_edge_litert", "tflite_runtime"])
def test_the_file_is_finer_than_the_converters(files, runtime):
    if not importlib.util.find_spec(runtime):
        pytest.skip(f"{runtime} is not installed")
    given, shipped, images, wanted = files
    before, after = (error(run_backbone(file, images, runtime).feature, wanted) for file in (given, shipped))
    assert after < 0.03
    assert after < 0.7 * before


@pytest.mark.slow
def test_the_file_holds_a_softmax_of_16_bits_beside_that_of_8(files):
    given, shipped, _, _ = files
    before, after = Model(given), Model(shipped)

    def kinds(model):
        return [model.kind(op) for op in model.root.subgraphs[0].operators]

    # One SUB, the converter's way to the fine part, became the other softmax and its rescaling.
    assert sorted([*kinds(after), "SUB"]) == sorted([*kinds(before), "SOFTMAX", "QUANTIZE"])
    softmax = [op for op in after.root.subgraphs[0].operators if after.kind(op) == "SOFTMAX"]
    types = sorted(after.root.subgraphs[0].tensors[op.outputs[0]].type for op in softmax)
    assert types == [7, 9]  # INT16, INT8
    assert export_backbone.refine(shipped) == shipped


@pytest.mark.skipif(importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is missing")
def test_tflm_runs_it(files, tmp_path):
    _, shipped, images, _ = files
    (tmp_path / "model.tflite").write_bytes(shipped)
    np.save(tmp_path / "images.npy", images)
    paths = [str(tmp_path / name) for name in ("model.tflite", "images.npy", "found.npy")]
    subprocess.run([sys.executable, "-c", IN_TFLM, *paths], check=True, timeout=120)
    other = run_backbone(shipped, images, "ai_edge_litert").raw
    found = np.load(tmp_path / "found.npy")
    assert found.shape == other.shape
    quanta = np.abs(found.astype(int) - other.astype(int))
    assert quanta.max() <= 4
    assert np.mean(quanta > 1) < 0.01


@pytest.mark.parametrize("mode", ["off", "on"])
def test_who_watches_sees_every_part_in_both_modes(mode):
    scores, values = normal(B, H, M, M), normal(B, H, M, E, seed=1)
    layer = calibrated(attend(), scores, values)
    set_mode(layer, mode)
    expected, seen = np.asarray(layer(scores, values)), []
    for name, part in layer.parts.items():
        part.watch = lambda given, left, name=name: seen.append(name)
    np.testing.assert_allclose(layer(scores, values), expected, rtol=0, atol=1e-5)
    assert sorted(seen) == sorted(layer.parts)
