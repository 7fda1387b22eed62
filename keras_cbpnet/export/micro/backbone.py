"""backbone.tflite as TFLM likes it: the same operators on the same numbers, in less memory."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from keras_cbpnet.export.micro import memory
from keras_cbpnet.export.micro.graph import Model, shape_of


def lean_backbone(content: bytes) -> bytes:
    """Return the model `content` with every result unchanged: right operands of matrix products come transposed, and
    operators and tensors have their order and place.

    It stays a model for every runtime.
    """
    model = Model(content)
    graph = model.root.subgraphs[0]
    _transpose_right_operands(model, graph)
    memory.order(model, graph, [])
    memory.write_plan(model, graph, share=False)
    return model.pack()


def _transpose_right_operands(model: Model, graph: Any) -> None:
    """Let every BATCH_MATMUL take its right operand transposed: TFLM keeps a transposed copy of another for good."""
    makers = {i: op for op in graph.operators for i in op.outputs}
    for op in list(graph.operators):
        if model.kind(op) != "BATCH_MATMUL" or op.builtinOptions.adjY:
            continue
        right = op.inputs[1]
        maker = makers.get(right)
        if maker is None or sum(right in reader.inputs for reader in graph.operators) > 1:
            continue
        kind, shape = model.kind(maker), shape_of(graph.tensors[right])
        wanted = (*shape[:-2], shape[-1], shape[-2])
        if kind == "RESHAPE" and 1 in shape[-2:]:
            left = makers.get(op.inputs[0])
            if left is not None and model.kind(left) == "RESHAPE" and left.inputs[0] == maker.inputs[0]:
                if shape_of(graph.tensors[op.inputs[0]]) == wanted:  # a vector times itself
                    graph.operators.remove(maker)
                    op.inputs, op.builtinOptions.adjY = [op.inputs[0]] * 2, True
                    continue
            maker.builtinOptions.newShape = list(wanted)
            maker.inputs[1] = model.tensor(graph, "shape", (len(wanted),), np.int32, wanted)
        elif kind == "TRANSPOSE":
            axes = model.constant(graph, maker.inputs[1]).tolist()
            axes[-2:] = axes[-1], axes[-2]
            maker.inputs[1] = model.tensor(graph, "axes", (len(axes),), np.int32, axes)
        else:
            continue
        graph.tensors[right] = copy.copy(graph.tensors[right])
        graph.tensors[right].shape = list(wanted)
        op.builtinOptions.adjY = True
