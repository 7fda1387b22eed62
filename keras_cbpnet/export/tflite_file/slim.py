"""What a .tflite file can do without."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.rewrites import drop_identities
from keras_cbpnet.export.tflite_file.sharing import SharingBuilder


def slim(content: bytes) -> bytes:
    """Return the .tflite file `content` in fewer bytes; every result keeps its bits.

    Names of tensors and graphs, metadata, empty quantization records, empty buffers and operators that change nothing
    go: a caller finds inputs and outputs by the names of the signatures. Equal parts are written once, and what reads
    and assigns the variables is made equal in every graph.
    """
    model = Model(content)
    root = model.root
    root.metadata, root.description = None, None
    used: Counter[str] = Counter()
    for graph in root.subgraphs:
        drop_identities(model, graph)
        graph.name, graph.debugMetadataIndex = None, -1
        used.update(model.variables(graph).values())
        for tensor in graph.tensors:
            tensor.name = None
            if root.buffers[tensor.buffer].data is None:
                tensor.buffer = 0
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
    model.prune()
    names = sorted(used, key=lambda name: (-used[name], name))
    for graph in root.subgraphs:
        _number_variables(model, graph, names)
    return model.pack(SharingBuilder())


def _number_variables(model: Model, graph: Any, names: Sequence[str]) -> None:
    """Number handle and value of the i-th variable in `names` 2 i and 2 i + 1, all other tensors of `graph` after them.

    The value is what is read from the variable, or assigned where nothing is read. Operators of different graphs that
    do the same with a variable are equal then.
    """
    variables = model.variables(graph)
    values: dict[str, int] = {}
    for op in sorted(graph.operators, key=model.kind, reverse=True):  # READ_VARIABLE before ASSIGN_VARIABLE
        kind = model.kind(op)
        if kind == "READ_VARIABLE":
            values[variables[op.inputs[0]]] = op.outputs[0]
        elif kind == "ASSIGN_VARIABLE" and (name := variables[op.inputs[0]]) not in values:
            if op.inputs[1] in values.values():  # a constant that starts several variables
                graph.tensors.append(copy.copy(graph.tensors[op.inputs[1]]))
                op.inputs[1] = len(graph.tensors) - 1
            values[name] = op.inputs[1]
    numbers = {name: tensor for tensor, name in variables.items()}
    first = [found.get(name) for name in names for found in (numbers, values)]
    while first and first[-1] is None:
        first.pop()
    model.renumber(graph, [*first, *(i for i in range(len(graph.tensors)) if i not in first)])
