"""What a .tflite file can do without."""

from __future__ import annotations

from typing import Any

import flatbuffers
from tensorflow.lite.python import schema_py_generated as schema


def slim(model: bytes) -> bytes:
    """Return `model` without names of tensors inside its graphs, empty quantization records and empty buffers.

    Inputs and outputs of the graphs keep their names. A head of five hundred operators loses some 25 KB, no number.
    """
    graph = schema.ModelT.InitFromPackedBuf(model, 0)
    kept: dict[int, int] = {}  # of buffers with data, and of the first, which stands for none
    for index, buffer in enumerate(graph.buffers):
        if index == 0 or buffer.data is not None:
            kept[index] = len(kept)
    for subgraph in graph.subgraphs:
        ends = {int(i) for i in (*_indices(subgraph.inputs), *_indices(subgraph.outputs))}
        for index, tensor in enumerate(subgraph.tensors):
            if index not in ends:
                tensor.name = None
            tensor.buffer = kept.get(tensor.buffer, 0)
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
    for entry in graph.metadata or []:
        entry.buffer = kept.get(entry.buffer, 0)
    graph.buffers = [graph.buffers[index] for index in kept]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(graph.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _indices(found: Any) -> tuple[int, ...]:
    return () if found is None else tuple(found)
