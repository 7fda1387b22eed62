"""Rewrites of one subgraph that keep its values and spare TFLM memory.

What TFLM does with memory decides them: every tensor and operator costs a record in the arena; BATCH_MATMUL keeps a
transposed copy of an operand for good, unless it comes transposed; READ_VARIABLE copies the whole variable.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from keras_cbpnet.export.micro.graph import DTYPES, Model, replace_input, shape_of

CHEAP = ("ADD", "CONCATENATION", "MUL", "SUB")
LARGE = 1024  # bytes; a smaller variable is read once: a second operator costs more than its copy


def simplify(model: Model, graph: Any) -> None:
    """Rewrite `graph`; every output and every assigned variable keeps its value."""
    _drop_dead(model, graph)
    drop_identities(model, graph)
    _transpose_outside(model, graph)
    _fuse(model, graph)
    _keep_in_variables(model, graph)
    _recompute(model, graph)
    _read_for_each_reader(model, graph)
    _drop_dead(model, graph)


def _readers(graph: Any) -> dict[int, list[Any]]:
    readers: dict[int, list[Any]] = defaultdict(list)
    for op in graph.operators:
        for i in dict.fromkeys(op.inputs):
            readers[i].append(op)
    return readers


def _drop_dead(model: Model, graph: Any) -> None:
    """Drop operators whose results nobody reads."""
    needed = {int(i) for i in graph.outputs}
    kept = []
    for op in reversed(graph.operators):
        if model.kind(op) == "ASSIGN_VARIABLE" or needed & set(op.outputs):
            needed |= set(op.inputs)
            kept.append(op)
    graph.operators = kept[::-1]


def drop_identities(model: Model, graph: Any) -> None:
    """Drop slices of everything and reshapes to the same shape; let a reshape of a reshape read the first's input."""
    source: dict[int, int] = {}
    for op in list(graph.operators):
        kind = model.kind(op)
        if kind not in ("STRIDED_SLICE", "RESHAPE"):
            continue
        before, after = (shape_of(graph.tensors[i]) for i in (op.inputs[0], op.outputs[0]))
        if before == after and op.outputs[0] not in [int(i) for i in graph.outputs]:
            graph.operators.remove(op)
            replace_input(graph.operators, op.outputs[0], op.inputs[0])
        elif kind == "RESHAPE":
            op.inputs[0] = source.get(op.inputs[0], op.inputs[0])
            source[op.outputs[0]] = op.inputs[0]


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
                options = schema.ReshapeOptionsT()
                options.newShape = list(shape)
                order = model.tensor(graph, "shape", (2,), np.int32, shape)
                ops.append(model.operator("RESHAPE", (i, order), (transposed[i],), options))
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


def _fuse(model: Model, graph: Any) -> None:
    """Let a FULLY_CONNECTED add the bias and cut off below zero itself, where nobody reads the value before."""
    makers = {i: op for op in graph.operators for i in op.outputs}
    readers = _readers(graph)
    outputs = [int(i) for i in graph.outputs]

    def product(i: int) -> Any:
        maker = makers.get(i)
        alone = maker is not None and model.kind(maker) == "FULLY_CONNECTED" and len(readers[i]) == 1
        return maker if alone and i not in outputs else None

    for op in list(graph.operators):
        kind = model.kind(op)
        if kind == "ADD" and len(shape_of(graph.tensors[op.inputs[1]])) == 1:
            maker, bias = product(op.inputs[0]), op.inputs[1]
            if maker is None or maker.inputs[2] >= 0 or op.builtinOptions.fusedActivationFunction:
                continue
            maker.inputs[2] = bias
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


def _recompute(model: Model, graph: Any) -> None:
    """Compute a large value anew for every reader where a few elementwise operators make it from what is at hand."""
    makers = {i: op for op in graph.operators for i in op.outputs}

    def chain(i: int) -> list[Any] | None:
        """The operators that make tensor `i`, or None where something else has a part in it."""
        if i not in makers or model.kind(makers[i]) == "READ_VARIABLE":
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
        if model.kind(op) not in CHEAP or model.size(graph, op.outputs[0]) < LARGE:
            continue
        value = op.outputs[0]
        readers = _readers(graph)[value]
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


def _keep_in_variables(model: Model, graph: Any) -> None:
    """Assign a large value early that becomes a variable's new value and is read more than once on the way.

    Its readers then read the variable, so that the value need not stay in the arena beside it.
    """
    makers = {i: op for op in graph.operators for i in op.outputs}
    reads: dict[int, list[Any]] = defaultdict(list)
    for op in graph.operators:
        if model.kind(op) == "READ_VARIABLE":
            reads[op.inputs[0]].append(op)
    for assign in [op for op in graph.operators if model.kind(op) == "ASSIGN_VARIABLE"]:
        handle, value = assign.inputs
        if model.size(graph, value) < LARGE:
            continue
        while value in makers:  # towards the old value, along operands of the variable's own shape
            maker, readers = makers[value], _readers(graph)[value]
            if len(readers) > 1 and maker not in reads[handle] and assign in readers:
                _assign_first(model, graph, assign, maker, [reader for reader in readers if reader is not assign])
                break
            if len(readers) > 1 and maker not in reads[handle]:
                copy = model.tensor(graph, "kept", shape_of(graph.tensors[value]), np.float32)
                replace_input(readers, value, copy)
                place = graph.operators.index(maker) + 1
                store = model.operator("ASSIGN_VARIABLE", (handle, value), (), schema.AssignVariableOptionsT())
                load = model.operator("READ_VARIABLE", (handle,), (copy,), schema.ReadVariableOptionsT())
                graph.operators[place:place] = [store, load]
                break
            like = [i for i in maker.inputs if i >= 0 and _same_shape(graph, i, value) and i in makers]
            if maker in reads[handle] or not like:
                break
            value = like[0]


def _assign_first(model: Model, graph: Any, assign: Any, maker: Any, readers: list[Any]) -> None:
    """Move `assign` right behind the `maker` of its value and let all other readers read the variable."""
    handle, value = assign.inputs
    copy = model.tensor(graph, "kept", shape_of(graph.tensors[value]), np.float32)
    replace_input(readers, value, copy)
    graph.operators.remove(assign)
    place = graph.operators.index(maker) + 1
    load = model.operator("READ_VARIABLE", (handle,), (copy,), schema.ReadVariableOptionsT())
    graph.operators[place:place] = [assign, load]


def _same_shape(graph: Any, first: int, second: int) -> bool:
    return shape_of(graph.tensors[first]) == shape_of(graph.tensors[second])


def _read_for_each_reader(model: Model, graph: Any) -> None:
    """Read a large variable once for every operator that uses it: a copy then lives as long as one operator."""
    ops: list[Any] = []
    readers = _readers(graph)
    for op in graph.operators:
        ops.append(op)
        if model.kind(op) == "READ_VARIABLE" and model.size(graph, op.outputs[0]) >= LARGE:
            for reader in readers[op.outputs[0]][1:]:
                tensor = graph.tensors[op.outputs[0]]
                again = model.tensor(graph, "again", shape_of(tensor), DTYPES[tensor.type])
                ops.append(model.operator("READ_VARIABLE", op.inputs, (again,), schema.ReadVariableOptionsT()))
                replace_input([reader], op.outputs[0], again)
    graph.operators = ops
