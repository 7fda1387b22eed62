"""State as variable tensors: memory that outlives a run and that operators read and write in place.

The converter's resource variables cost TFLM a copy at every READ_VARIABLE and a record for every handle, read and
assignment. A variable tensor costs its own bytes: the elementwise operators that make its new value write over the old.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from keras_cbpnet.export.tflite_file.graph import Model, replace_input, shape_of

IN_PLACE = frozenset(
    "ABS ADD DIV EXP LOG MAXIMUM MINIMUM MUL NEG RELU RESHAPE RSQRT SELECT_V2 SQRT SQUARE SUB TANH".split()
)  # element i of the result needs element i of the operands alone
START = "start."  # goes before a variable's name in that of its first value


class Variable(NamedTuple):
    """A variable tensor of a graph.

    Attributes:
        name: of the variable.
        start: its first value.
        versions: the tensors that lie in its memory one after another, itself first; each is made from the one before,
            or after the last use of it.
    """

    name: str
    start: NDArray[Any]
    versions: list[int]


def take_variables(model: Model, graph: Any, starts: dict[str, NDArray[Any]]) -> list[Variable]:
    """Replace the resource variables of `graph` by variable tensors.

    Args:
        model: what `graph` belongs to.
        graph: the subgraph; reads every variable before it assigns it, and assigns each at most once.
        starts: first values by name.
    """
    handles = {
        op.outputs[0]: op.builtinOptions.sharedName.decode() for op in graph.operators if model.kind(op) == "VAR_HANDLE"
    }
    found: dict[str, Variable] = {}
    for name in handles.values():
        tensor = model.tensor(graph, name, starts[name].shape, np.float32)
        graph.tensors[tensor].isVariable = True
        found[name] = Variable(name, starts[name], [tensor])
    for op in graph.operators:
        if model.kind(op) == "READ_VARIABLE":
            replace_input(graph.operators, op.outputs[0], found[handles[op.inputs[0]]].versions[0])
    for op in graph.operators:
        if model.kind(op) == "ASSIGN_VARIABLE":
            variable = found[handles[op.inputs[0]]]
            variable.versions[1:] = _path(model, graph, variable.versions[0], op.inputs[1])
    gone = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
    graph.operators = [op for op in graph.operators if model.kind(op) not in gone]
    return list(found.values())


def first_values(model: Model, graph: Any) -> dict[str, NDArray[Any]]:
    """Return the value that each variable is assigned in `graph`, which sets up the others."""
    names = {}
    values = {}
    for op in graph.operators:
        if model.kind(op) == "VAR_HANDLE":
            names[op.outputs[0]] = op.builtinOptions.sharedName.decode()
    for op in graph.operators:
        if model.kind(op) == "ASSIGN_VARIABLE":
            value = model.constant(graph, op.inputs[1])
            if value is None:
                raise ValueError(f"variable {names[op.inputs[0]]} does not start from a constant")
            values[names[op.inputs[0]]] = value
    return values


def _path(model: Model, graph: Any, variable: int, value: int) -> list[int]:
    """Return the shortest way from `variable` to `value` by operators in place; `value` alone where there is none."""
    makers = {i: op for op in graph.operators for i in op.outputs}
    shape = shape_of(graph.tensors[variable])
    ways: deque[list[int]] = deque([[value]])
    seen = {value}
    while ways:
        way = ways.popleft()
        maker = makers.get(way[0])
        if maker is None or model.kind(maker) not in IN_PLACE:
            continue
        for i in maker.inputs:
            if i == variable:
                return way
            if i >= 0 and i not in seen and shape_of(graph.tensors[i]) == shape:
                seen.add(i)
                ways.append([i, *way])
    return [value]


def settle(model: Model, graph: Any, variables: list[Variable]) -> None:
    """Make the versions of each variable one tensor, and let the first run start from the first values.

    The operators must have their final order.
    """
    home = {version: variable.versions[0] for variable in variables for version in variable.versions}
    for op in graph.operators:
        op.inputs, op.outputs = ([home.get(i, i) for i in each] for each in (op.inputs, op.outputs))
    graph.outputs = [home.get(int(i), int(i)) for i in graph.outputs]
    one = model.tensor(graph, "one", (), np.float32, 1.0)
    started = model.tensor(graph, "started", (), np.float32)  # TFLM sets variable tensors to 0
    graph.tensors[started].isVariable = True
    first = model.tensor(graph, "first", (), np.bool_)
    ops = [model.operator("LESS", (started, one), (first,), schema.LessOptionsT())]
    for name, value, versions in variables:
        start = model.tensor(graph, START + name, value.shape, np.float32, value)
        ops.append(model.operator("SELECT_V2", (first, start, versions[0]), versions[:1], schema.SelectV2OptionsT()))
    ops.append(model.operator("MAXIMUM", (started, one), (started,), schema.MaximumMinimumOptionsT()))
    graph.operators[:0] = ops
