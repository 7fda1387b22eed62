"""Compressed weights: rounding, formats, and the same numbers under TFLM."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from keras_cbpnet import api
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.micro import decode
from keras_cbpnet.export.micro.compression import Compression, parse_compression
from keras_cbpnet.export.micro.memory import PLAN
from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.ops import op_table

# Dimensions: D width, K kernel.
D = 32
needs_tflm = pytest.mark.skipif(importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is missing")


def dense(weights, shared=True, scales=1):
    """A file of two dense layers with int8 `weights` [D, D], the same ones twice, or the second time other ones.

    The weights have one scale, or one for each of their D rows.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = Model.__new__(Model)
    model.root = schema.ModelT()
    model.root.version, model.root.operatorCodes, model.root.buffers = 3, [], [schema.BufferT()]
    model.root.metadata, model.root.signatureDefs = [], []
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    model.root.subgraphs = [graph]
    last = model.tensor(graph, "in", (1, D), np.int8)
    graph.inputs = [last]
    for place in range(2):
        kernel = model.tensor(graph, f"w{place}", (D, D), np.int8, weights if shared or not place else weights[::-1])
        bias = model.tensor(graph, f"b{place}", (D,), np.int32, np.arange(D) * 50)
        out = model.tensor(graph, f"y{place}", (1, D), np.int8)
        model.root.subgraphs[0].operators.append(
            model.operator("FULLY_CONNECTED", (last, kernel, bias), (out,), schema.FullyConnectedOptionsT())
        )
        last = out
    for tensor in graph.tensors:
        scale = {"w": 0.01, "b": 0.0005}.get(tensor.name.decode()[0], 0.05)
        tensor.quantization = schema.QuantizationParametersT()
        count = 1 if scale == 0.05 else scales
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale] * count, [0] * count
    graph.outputs = [last]
    return model.pack()


RUN = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_bytes(open(sys.argv[1], "rb").read(), arena_size=1 << 20)
rng = np.random.default_rng(0)
for _ in range(4):
    interpreter.set_input(rng.integers(-128, 128, (1, 32), dtype=np.int8), 0)
    interpreter.invoke()
    print(interpreter.get_output(0).tolist())
"""


def answers(content, folder):
    file = folder / "model.tflite"
    file.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", RUN, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_rounding_is_the_best_there_is(bits):
    rng = np.random.default_rng(bits)
    values = np.clip(np.rint(rng.normal(0, 30, 500)), -127, 127).astype(np.int8)
    found = decode.nearest(values, bits)
    assert len(np.unique(found)) <= 1 << bits
    error = np.sum((values.astype(float) - found) ** 2)
    levels = np.unique(found).astype(float)
    for place in range(len(levels)):  # no other level in place of one is better
        for step in (-2, -1, 1, 2):
            other = levels.copy()
            other[place] += step
            moved = np.min((values[:, None] - other[None, :].astype(float)) ** 2, axis=1).sum()
            assert moved >= error - 1e-9
    uniform = np.rint(values / (256 / (1 << bits))) * (256 / (1 << bits))
    assert error < 0.7 * np.sum((values.astype(float) - uniform) ** 2)


def test_few_values_stay():
    values = np.array([3, -5, 3, 0], np.int8)
    np.testing.assert_array_equal(decode.nearest(values, 2), values)


def test_a_table():
    packed, header = decode.table(np.array([7, -1, 7, 0, -1], np.int8), 4)
    assert packed == bytes([0x20, 0x21, 0x00])  # -1, 0, 7 are 0, 1, 2; the first in the high bits
    assert header == bytes([0, 1, 0, 0, 1, 0xF4]) + bytes(10) + np.array([-1, 0, 7], np.int8).tobytes()
    with pytest.raises(ValueError, match="5 values do not fit 2 bits"):
        decode.table(np.arange(5, dtype=np.int8), 2)


@needs_tflm
def test_a_table_is_what_tflms_own_tool_writes():
    from tflite_micro.tensorflow.lite.micro.compression import lut, model_editor, spec

    values = decode.nearest(np.random.default_rng(0).integers(-127, 128, (8, 40), dtype=np.int8).ravel(), 4)
    method = spec.LookUpTableCompression(index_bitwidth=4, mode=spec.PerTensor())
    tensor = model_editor.Tensor(shape=values.shape, dtype=9, data=values)  # INT8
    theirs = lut.LutCompressor().compress(tensor, method)
    packed, header = decode.table(values, 4)
    assert packed == theirs.encoded_data
    stride = 6  # one byte, which matters where each channel has a table
    assert (
        header[:stride] + header[stride + 1 :] == theirs.ancillary_data[:stride] + theirs.ancillary_data[stride + 1 :]
    )


def test_without_zeros():
    bits, header = decode.pruned(np.array([0, 5, 0, 0, -1, 0, 0, 0, 9], np.int8))
    assert bits == bytes([0b01001000, 0b10000000])
    assert header == bytes([2, 1, 0, 0, 1]) + bytes(11) + np.array([5, -1, 9], np.int8).tobytes()


@needs_tflm
@pytest.mark.parametrize("scales", [1, D])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("text", ["lut:4", pytest.param("lut:2", marks=pytest.mark.slow), "prune"])
def test_the_same_numbers_under_tflm(text, shared, scales, tmp_path):
    rng = np.random.default_rng(1)
    weights = (rng.integers(-127, 128, (D, D)) * (rng.random((D, D)) < 0.25)).astype(np.int8)
    compression = parse_compression(text)
    plain = decode.rounded(dense(weights, shared, scales), compression)
    small = decode.compress(plain, compression)
    assert len(small) < len(plain) - 200
    kinds = [row["op"] for row in op_table(small)]
    assert "CUSTOM:TFLM_DECODE" in kinds
    assert [entry.name for entry in Model(small).root.metadata] == [PLAN]
    assert answers(small, tmp_path) == answers(plain, tmp_path)
    found = decode.saved(plain, small)
    assert found["plain_bytes"] == len(plain)
    assert found["bytes"] == len(small)
    assert found["zeros"] > 0.7 or text != "prune"


def test_what_would_not_become_smaller_stays():
    weights = np.random.default_rng(2).integers(1, 128, (D, D), dtype=np.int8)
    content = decode.compress(dense(weights), Compression("prune"))
    assert {row["op"] for row in op_table(content)} == {"FULLY_CONNECTED"}


def test_nothing_asked_for_is_nothing_done():
    content = dense(np.ones((D, D), np.int8))
    assert decode.rounded(content, None) is content
    assert decode.compress(content, None) is content


@pytest.mark.parametrize("text", ["lut", "lut:1", "lut:8", "lut:x", "prune:3", "zip"])
def test_an_unknown_compression_is_one_line(text):
    with pytest.raises(UserError, match=f"--compress is '{text}'; give lut:B with B from 2 to 7"):
        parse_compression(text)


def test_it_is_for_microcontrollers_alone(tmp_path):
    with pytest.raises(UserError, match="--compress lut:4 is for --target micro: TFLM alone has the operator DECODE"):
        api.convert(tmp_path, compress="lut:4")
    with pytest.raises(UserError, match="--compress prune is for int8 weights, not for --recipe float32"):
        api.convert(tmp_path, compress="prune", target="micro", recipe="float32")
