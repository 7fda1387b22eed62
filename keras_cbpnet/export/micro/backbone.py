"""backbone.tflite in a form that suits TFLM: the same operators on the same numbers, in less memory."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np

from keras_cbpnet.export.micro import memory
from keras_cbpnet.export.tflite_file.graph import Model, shape_of
from keras_cbpnet.export.tflite_file.rewrites import drop_dead


def lean_backbone(content: bytes) -> bytes:
    """Return the model `content` with every result unchanged: right operands of matrix products come transposed, and
    operators and tensors have their order and place.

    It stays a model for every runtime.
    """
    model = Model(content)
    graph = model.root.subgraphs[0]
    _transpose_right_operands(model, graph)
    drop_dead(graph)
    memory.order(model, graph, [])
    memory.write_plan(model, graph, share=False)
    return model.pack()


def _transpose_right_operands(model: Model, graph: Any) -> None:
    """Let every BATCH_MATMUL take its right operand transposed: TFLM otherwise keeps a transposed copy permanently."""
    makers = {i: op for op in graph.operators for i in op.outputs}
    readers = Counter(i for op in graph.operators for i in op.inputs)
    for op in graph.operators:
        if model.kind(op) != "BATCH_MATMUL" or op.builtinOptions.adjY:
            continue
        right, maker = op.inputs[1], makers.get(op.inputs[1])
        if maker is None or readers[right] > 1 or not _transpose_result(model, graph, maker):
            continue
        graph.tensors[right] = copy.copy(graph.tensors[right])
        shape = shape_of(graph.tensors[right])
        graph.tensors[right].shape = [*shape[:-2], shape[-1], shape[-2]]
        op.builtinOptions.adjY = True
        left = makers.get(op.inputs[0])
        if left is not None and _same_reshape(model, graph, left, maker):
            op.inputs = [op.inputs[0]] * 2  # a vector times itself


def _same_reshape(model: Model, graph: Any, first: Any, second: Any) -> bool:
    kinds = {model.kind(first), model.kind(second)}
    shapes = {shape_of(graph.tensors[op.outputs[0]]) for op in (first, second)}
    return kinds == {"RESHAPE"} and len(shapes) == 1 and first.inputs[0] == second.inputs[0]


def _transpose_result(model: Model, graph: Any, op: Any) -> bool:
    """Let `op` give its result with the last two axes swapped, where it can."""
    shape = shape_of(graph.tensors[op.outputs[0]])
    if model.kind(op) == "RESHAPE" and 1 in shape[-2:]:
        wanted = [*shape[:-2], shape[-1], shape[-2]]
        if op.builtinOptions is not None:
            op.builtinOptions.newShape = wanted
        op.inputs[1:] = [model.tensor(graph, "shape", (len(wanted),), np.int32, wanted)]
        return True
    axes = model.constant(graph, op.inputs[1]) if model.kind(op) == "TRANSPOSE" else None
    if axes is None:
        return False
    order = [*axes[:-2], axes[-1], axes[-2]]
    op.inputs[1] = model.tensor(graph, "axes", (len(order),), np.int32, order)
    return True
