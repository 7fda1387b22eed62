"""Operators in forms that interpreters compute faster, for graphs that learn: their weights are computed, not constant.

XNNPACK, LiteRT's kernels, takes no FULLY_CONNECTED whose weights are computed. TensorFlow Lite's own kernels, all that
tflite-runtime has for graphs with variables, look up every element of a broadcast SUB by its coordinates, and ABS is
`hypotf` there; ADD and MUL run along the rows.

A trap for whoever adds a form: tflite-runtime 2.14 lets an elementwise operator write over an input of the same size
that nobody reads afterwards, even where that input is a RESHAPE of a tensor that is still needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.tflite_file.graph import Model, shape_of

FEW = 256  # entries; one operator more costs as much as a result of fewer does in the slower form

Rule = Callable[[Model, Any, Any], "list[Any]"]


def quicken(content: bytes) -> bytes:
    """Return the .tflite file `content` with faster operators; results differ by rounding at most."""
    model = Model(content)
    for graph in model.root.subgraphs:
        graph.operators = [
            each for op in graph.operators for each in RULES.get(model.kind(op), _unchanged)(model, graph, op)
        ]
    return model.pack()


def _unchanged(model: Model, graph: Any, op: Any) -> list[Any]:
    return [op]


def _product(model: Model, graph: Any, op: Any) -> list[Any]:
    """Return a @ b.T, made of computed weights, as a BATCH_MATMUL."""
    left, right, *bias = op.inputs
    plain = op.builtinOptions.fusedActivationFunction == 0 and all(i < 0 for i in bias)
    ranks = [len(shape_of(graph.tensors[i])) for i in (left, right, op.outputs[0])]
    if model.constant(graph, right) is not None or not plain or ranks != [2, 2, 2]:
        return [op]
    return [model.operator("BATCH_MATMUL", (left, right), op.outputs, schema.BatchMatMulOptionsT(adjY=True))]


def _magnitude(model: Model, graph: Any, op: Any) -> list[Any]:
    """Return |x| as max(x, -x)."""
    if _few(graph, op):
        return [op]
    negate, negative = _negated(model, graph, op.inputs[0])
    options = schema.MaximumMinimumOptionsT()
    return [negate, model.operator("MAXIMUM", (op.inputs[0], negative), op.outputs, options)]


def _difference(model: Model, graph: Any, op: Any) -> list[Any]:
    """Return a broadcast x - c as x + -c, and c - x as -x + c, where c is constant."""
    first, second = op.inputs
    options = schema.AddOptionsT(fusedActivationFunction=op.builtinOptions.fusedActivationFunction)
    if shape_of(graph.tensors[first]) == shape_of(graph.tensors[second]):
        return [op]
    if (constant := model.constant(graph, second)) is not None:
        negative = model.tensor(graph, "", constant.shape, np.float32, -constant)
        return [model.operator("ADD", (first, negative), op.outputs, options)]
    if model.constant(graph, first) is None or _few(graph, op):
        return [op]
    negate, negative = _negated(model, graph, second)
    return [negate, model.operator("ADD", (negative, first), op.outputs, options)]


RULES: dict[str, Rule] = {"FULLY_CONNECTED": _product, "ABS": _magnitude, "SUB": _difference}


def _few(graph: Any, op: Any) -> bool:
    return int(np.prod(shape_of(graph.tensors[op.outputs[0]]))) < FEW


def _negated(model: Model, graph: Any, tensor: int) -> tuple[Any, int]:
    """Return the operator that makes -x, and -x."""
    negative = model.tensor(graph, "", shape_of(graph.tensors[tensor]), np.float32)
    return model.operator("NEG", (tensor,), (negative,), schema.NegOptionsT()), negative
