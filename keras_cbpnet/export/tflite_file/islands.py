"""Islands of float32 in an int8 file: what XNNPACK computes fast in floats, and integers slowly or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.tflite_file.graph import Model, shape_of
from keras_cbpnet.export.tflite_file.rewrites import drop_dead, raise_version, readers_of
from keras_cbpnet.export.tflite_file.sharing import SharingBuilder

ARITHMETIC = frozenset("ADD BATCH_MATMUL MUL RSQRT SOFTMAX SUB SUM".split())
MOVING = frozenset("CONCATENATION RESHAPE SQUEEZE STRIDED_SLICE TRANSPOSE".split())
ENDS = frozenset(("DEQUANTIZE", "QUANTIZE"))
OPERATORS = ARITHMETIC | MOVING | ENDS  # those that touch a float
DEQUANTIZE_VERSION = 2  # from which it takes int8


def float_islands(content: bytes) -> bytes:
    """Return the int8 .tflite file `content` with attention, norms and residual sums in float32.

    Dense layers, convolutions, activation functions with their gates and what moves data between these stay int8. An
    island begins with a DEQUANTIZE, and ends with a QUANTIZE to the scale that the tensor there had before.
    """
    model = Model(content)
    for graph in model.root.subgraphs:
        _rewrite(model, graph, _island(model, graph))
    raise_version(model, "DEQUANTIZE", DEQUANTIZE_VERSION)
    model.prune()
    return model.pack(SharingBuilder())


def _island(model: Model, graph: Any) -> list[Any]:
    """Return the operators that become float32."""
    gates = {i for op in graph.operators if model.kind(op) == "LOGISTIC" for i in op.outputs}
    found = [op for op in graph.operators if model.kind(op) in ARITHMETIC and gates.isdisjoint(op.inputs)]
    found = [op for op in found if _is_int8(graph, op.outputs[0])]
    readers = readers_of(graph)
    while True:  # what only moves data from islands to islands is a part of them
        inside = {i for op in found for i in op.outputs}
        between = [
            op
            for op in graph.operators
            if model.kind(op) in MOVING
            and op not in found
            and not inside.isdisjoint(op.inputs)
            and all(reader in found for reader in readers[op.outputs[0]])
        ]
        if not between:
            return found
        found += between


def _rewrite(model: Model, graph: Any, island: list[Any]) -> None:
    inside = {i for op in island for i in op.outputs}
    outside = {i for op in graph.operators if op not in island for i in op.inputs} | {int(i) for i in graph.outputs}
    twins: dict[int, int] = {}
    ops: list[Any] = []

    def in_float(i: int) -> int:
        """Return the float32 twin of tensor `i`; a DEQUANTIZE makes one of what comes from outside."""
        if not _is_int8(graph, i):
            return i
        if i not in twins:
            tensor, value = graph.tensors[i], model.constant(graph, i)
            scale, zero_point = np.float32(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])
            real = None if value is None else (value.astype(np.float32) - zero_point) * scale
            twins[i] = model.tensor(graph, "in_float", shape_of(tensor), np.float32, real)
            if value is None and i not in inside:
                ops.append(model.operator("DEQUANTIZE", [i], [twins[i]], schema.DequantizeOptionsT()))
        return twins[i]

    for op in graph.operators:
        if op not in island:
            ops.append(op)
            continue
        results = op.outputs
        op.inputs = [in_float(i) for i in op.inputs]
        op.outputs = [in_float(i) for i in results]
        ops.append(op)
        ends = [i for i in results if i in outside]
        ops += [model.operator("QUANTIZE", [twins[i]], [i], schema.QuantizeOptionsT()) for i in ends]
    graph.operators = ops
    drop_dead(graph)


def _is_int8(graph: Any, i: int) -> bool:
    return i >= 0 and graph.tensors[i].type == schema.TensorType.INT8
