"""Rewrites of one subgraph that keep its values and spare TFLM memory; the general ones are in `tflite_file.rewrites`.

What TFLM does with memory decides them: every tensor and operator costs a record in the arena; BATCH_MATMUL keeps a
    transposed copy of an operand permanently, unless it comes transposed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.micro.variables import Variable
from keras_cbpnet.export.tflite_file.graph import DTYPES, Model, replace_input, shape_of
from keras_cbpnet.export.tflite_file.rewrites import drop_dead, drop_identities, fuse, readers_of

CHEAP = ("ADD", "CONCATENATION", "MUL", "SUB")
LARGE = 1024  # bytes; to keep a smaller value costs less than the operators that make it again


def simplify(model: Model, graph: Any, variables: list[Variable]) -> None:
    """Rewrite `graph`; every output and every version of the `variables` keeps its value."""
    kept = {version for variable in variables for version in variable.versions}
    drop_dead(graph, kept)
    drop_identities(model, graph, kept)
    _drop_shapes(model, graph)
    _slice_plainly(model, graph)
    _transpose_outside(model, graph)
    fuse(model, graph, kept)
    _recompute(model, graph, kept)
    drop_dead(graph, kept)


def _drop_shapes(model: Model, graph: Any) -> None:
    """Drop the shape that every RESHAPE is given: TFLM needs only the shape of the result."""
    for op in graph.operators:
        if model.kind(op) == "RESHAPE":
            op.inputs = op.inputs[:1]


def _reshape_options(shape: tuple[int, ...]) -> Any:
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    return options


def _slice_plainly(model: Model, graph: Any) -> None:
    """Make every STRIDED_SLICE of whole rows a SLICE, whose kernel keeps no parameters."""
    for place, op in enumerate(graph.operators):
        if model.kind(op) != "STRIDED_SLICE":
            continue
        before, after = (shape_of(graph.tensors[i]) for i in (op.inputs[0], op.outputs[0]))
        begin, _, strides = (model.constant(graph, i) for i in op.inputs[1:])
        options = op.builtinOptions
        if begin is None or strides is None or len(before) != len(after) or set(strides.tolist()) != {1}:
            continue
        masks = range(len(begin))
        first = [0 if options.beginMask >> axis & 1 else int(begin[axis]) % before[axis] for axis in masks]
        ends = [
            model.tensor(graph, name, (len(each),), np.int32, each)
            for name, each in (("begin", first), ("size", after))
        ]
        graph.operators[place] = model.operator("SLICE", (op.inputs[0], *ends), op.outputs, schema.SliceOptionsT())


def _transpose_outside(model: Model, graph: Any) -> None:
    """Make every BATCH_MATMUL a FULLY_CONNECTED, with transposed operands where it wants them."""
    transposed: dict[int, int] = {}
    ops: list[Any] = []

    def transpose(i: int) -> int:
        if i not in transposed:
            tensor = graph.tensors[i]
            shape = shape_of(tensor)[::-1]
            transposed[i] = model.tensor(graph, f"t{i}", shape, DTYPES[tensor.type])
            if 1 in shape:
                ops.append(model.operator("RESHAPE", (i,), (transposed[i],), _reshape_options(shape)))
            else:
                order = model.tensor(graph, "order", (2,), np.int32, (1, 0))
                ops.append(model.operator("TRANSPOSE", (i, order), (transposed[i],), schema.TransposeOptionsT()))
        return transposed[i]

    for op in graph.operators:
        if model.kind(op) == "BATCH_MATMUL":
            left, right = op.inputs
            left = transpose(left) if op.builtinOptions.adjX else left
            right = right if op.builtinOptions.adjY else transpose(right)
            op = model.operator("FULLY_CONNECTED", (left, right, -1), op.outputs, schema.FullyConnectedOptionsT())
        ops.append(op)
    graph.operators = ops


def _recompute(model: Model, graph: Any, kept: set[int]) -> None:
    """Compute a large value again for every reader where a few elementwise operators make it from what is at hand."""
    makers = {i: op for op in graph.operators for i in op.outputs}

    def chain(i: int) -> list[Any] | None:
        """Return the operators that make tensor `i`, or None where something else has a part in it."""
        if i in kept or i not in makers:
            return []
        if model.kind(makers[i]) not in CHEAP:
            return None
        found: list[Any] = []
        for j in makers[i].inputs:
            part = chain(j)
            if part is None:
                return None
            found += [op for op in part if op not in found]
        return [*found, makers[i]]

    for op in list(graph.operators):
        value = op.outputs[0]
        if model.kind(op) not in CHEAP or value in kept or model.size(graph, value) < LARGE:
            continue
        readers = readers_of(graph)[value]
        if all(model.kind(reader) in CHEAP and chain(reader.outputs[0]) for reader in readers):
            continue  # a part of a longer chain
        ops = chain(value)
        if ops is None:
            continue
        for reader in readers[1:]:
            renamed: dict[int, int] = {}
            place = graph.operators.index(reader)
            for each in ops:
                tensor = graph.tensors[each.outputs[0]]
                copy = model.tensor(graph, "anew", shape_of(tensor), DTYPES[tensor.type])
                renamed[each.outputs[0]] = copy
                again = model.operator(
                    model.kind(each), [renamed.get(i, i) for i in each.inputs], (copy,), each.builtinOptions
                )
                graph.operators.insert(place, again)
                place += 1
            replace_input([reader], value, renamed[value])
