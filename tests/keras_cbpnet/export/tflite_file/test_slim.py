"""The slimmed head: the same bits under both runtimes, little beside its numbers, everything written once."""

import importlib.util
import os
import subprocess
import sys

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from helpers.paths import TESTS

from firmware_host.bundle import BLOCKS
from keras_cbpnet.export.tflite_file.sharing import BUFFER_ALIGNMENT, SharingBuilder
from keras_cbpnet.export.tflite_file.slim import slim

pytestmark = pytest.mark.slow  # each builds or trains networks

OVERHEAD = {"mlp": 20_400, "prototype": 23_400, "residual": 24_000}  # bytes beside the head's numbers


@pytest.mark.parametrize("block", BLOCKS)
def test_a_head_is_little_more_than_its_numbers(heads, block):
    folder, numbers = heads[block]
    size = len(slim((folder / "whole.tflite").read_bytes()))
    assert numbers < size < numbers + OVERHEAD[block]
    if block != "mlp":  # whose numbers are half as many
        assert size < 1.2 * numbers


@pytest.mark.parametrize("runtime", ["tflite_runtime", "ai_edge_litert"])
@pytest.mark.parametrize("block", BLOCKS)
def test_every_output_keeps_its_bits(heads, block, runtime):
    if not importlib.util.find_spec(runtime):
        pytest.skip(f"{runtime} is not installed")
    folder, _ = heads[block]
    (folder / "slim.tflite").write_bytes(slim((folder / "whole.tflite").read_bytes()))
    outputs = []
    for name in ("whole", "slim"):
        # In a process of its own: tflite_runtime does not load after TensorFlow.
        subprocess.run(
            [sys.executable, TESTS / "helpers" / "trace_head.py", runtime, folder / f"{name}.tflite", folder / name],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent)))},
            check=True,
        )
        with np.load(folder / f"{name}.npz") as file:
            outputs.append(dict(file))
    assert set(outputs[0]) == set(outputs[1])
    assert any(name.endswith("train.replaced") and value >= 0 for name, value in outputs[0].items())
    for name, value in outputs[0].items():
        np.testing.assert_array_equal(value, outputs[1][name], err_msg=name)


def test_equal_parts_are_written_once():
    def tensor(*shape):
        return schema.TensorT(shape=list(shape), type=1, hasRank=True)

    def size(tensors, builder):
        graph = schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[0], name=b"name", operators=[])
        buffers = [schema.BufferT(), schema.BufferT(data=np.arange(20, dtype=np.uint8))]
        root = schema.ModelT(version=3, subgraphs=[graph], buffers=buffers, operatorCodes=[], description=b"name")
        builder.Finish(root.Pack(builder), file_identifier=b"TFL3")
        content = bytes(builder.Output())
        found = schema.ModelT.InitFromPackedBuf(content, 0)
        assert [list(each.shape) for each in found.subgraphs[0].tensors] == [each.shape for each in tensors]
        assert all(each.type == 1 and each.hasRank for each in found.subgraphs[0].tensors)
        assert found.subgraphs[0].name == found.description == b"name"
        data = found.buffers[1].data
        np.testing.assert_array_equal(data, np.arange(20))
        return len(content), content.index(data.tobytes())

    one, place = size([tensor(2, 3)], SharingBuilder())
    many, _ = size([tensor(2, 3)] * 9, SharingBuilder())
    assert many - one == 8 * 4  # an offset for each
    assert place % BUFFER_ALIGNMENT == 0
    assert size([tensor(2, 3), tensor(3, 2)], SharingBuilder())[0] > one + 8
    assert size([tensor(2, 3)] * 9, flatbuffers.Builder(0))[0] > many + 100
