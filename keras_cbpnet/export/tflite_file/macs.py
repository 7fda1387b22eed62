"""Multiply-adds of a .tflite file, counted from its operators' shapes."""

from __future__ import annotations

import math
from typing import Any

from keras_cbpnet.export.tflite_file.graph import Model, shape_of


def multiply_adds(content: bytes, subgraphs: tuple[int, ...] = (0,)) -> int:
    """Return the multiply-adds of dense, convolution and matrix product operators in the `subgraphs` of a file.

    Elementwise operators are not counted, as is usual.
    """
    model = Model(content)
    graphs = [model.root.subgraphs[index] for index in subgraphs]
    return sum(_of_operator(model, graph, op) for graph in graphs for op in graph.operators)


def _of_operator(model: Model, graph: Any, op: Any) -> int:
    kind = model.kind(op)
    if kind not in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL"):
        return 0
    results = math.prod(shape_of(graph.tensors[op.outputs[0]]))
    left, right = (shape_of(graph.tensors[i]) for i in op.inputs[:2])
    if kind == "FULLY_CONNECTED":
        return results * right[-1]
    if kind == "BATCH_MATMUL":
        return results * left[-2 if op.builtinOptions.adjX else -1]
    height, width = right[1:3]
    return results * height * width * (right[3] if kind == "CONV_2D" else 1)
