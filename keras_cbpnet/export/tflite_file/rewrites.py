"""Rewrites of one subgraph that keep its values: fewer operators, on whatever runs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.tflite_file.graph import CODES, Model, replace_input, shape_of


def readers_of(graph: Any) -> dict[int, list[Any]]:
    """Return the operators that read each tensor."""
    readers: dict[int, list[Any]] = defaultdict(list)
    for op in graph.operators:
        for i in dict.fromkeys(op.inputs):
            readers[i].append(op)
    return readers


def drop_dead(graph: Any, kept: Collection[int] = ()) -> None:
    """Drop operators whose results nobody reads, but for the tensors `kept`."""
    needed = {*kept, *(int(i) for i in graph.outputs)}
    ops = []
    for op in reversed(graph.operators):
        if needed & set(op.outputs):
            needed |= set(op.inputs)
            ops.append(op)
    graph.operators = ops[::-1]


def drop_identities(model: Model, graph: Any, kept: Collection[int] = ()) -> None:
    """Drop slices of everything and reshapes to the same shape; let a reshape of a reshape read the first's input."""
    source: dict[int, int] = {}
    for op in list(graph.operators):
        kind = model.kind(op)
        if kind not in ("STRIDED_SLICE", "RESHAPE"):
            continue
        before, after = (shape_of(graph.tensors[i]) for i in (op.inputs[0], op.outputs[0]))
        if before == after and op.outputs[0] not in {*kept, *(int(i) for i in graph.outputs)}:
            graph.operators.remove(op)
            replace_input(graph.operators, op.outputs[0], op.inputs[0])
        elif kind == "RESHAPE":
            op.inputs[0] = source.get(op.inputs[0], op.inputs[0])
            source[op.outputs[0]] = op.inputs[0]


def fuse(model: Model, graph: Any, kept: Collection[int] = ()) -> None:
    """Let a FULLY_CONNECTED add the bias and cut off below zero itself, where nobody reads the value before."""
    makers = {i: op for op in graph.operators for i in op.outputs}
    readers = readers_of(graph)
    outputs = {*kept, *(int(i) for i in graph.outputs)}

    def product(i: int) -> Any:
        maker = makers.get(i)
        alone = maker is not None and model.kind(maker) == "FULLY_CONNECTED" and len(readers[i]) == 1
        return maker if alone and i not in outputs else None

    for op in list(graph.operators):
        kind = model.kind(op)
        if kind == "ADD" and len(shape_of(graph.tensors[op.inputs[1]])) == 1:
            maker, bias = product(op.inputs[0]), op.inputs[1]
            if maker is None or maker.inputs[2] >= 0 or maker.builtinOptions.fusedActivationFunction:
                continue
            maker.inputs[2] = bias
            maker.builtinOptions.fusedActivationFunction = op.builtinOptions.fusedActivationFunction
        elif kind == "RELU":
            maker = product(op.inputs[0])
            if maker is None:
                continue
            maker.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
        else:
            continue
        graph.operators.remove(maker)  # to where its last operand is known
        maker.outputs = op.outputs
        makers[op.outputs[0]] = maker
        graph.operators[graph.operators.index(op)] = maker


def use_select_v2(model: Model, graph: Any) -> None:
    """Make every SELECT a SELECT_V2: with one condition for all elements they are the same, and TFLM has it alone."""
    for place, op in enumerate(graph.operators):
        if model.kind(op) == "SELECT":
            graph.operators[place] = model.operator("SELECT_V2", op.inputs, op.outputs, schema.SelectV2OptionsT())


def raise_version(model: Model, kind: str, least: int) -> None:
    """Raise the version of an operator: interpreters refuse types that are newer than it."""
    for code in model.root.operatorCodes:
        if max(code.builtinCode, code.deprecatedBuiltinCode) == CODES[kind]:
            code.version = max(code.version, least)
