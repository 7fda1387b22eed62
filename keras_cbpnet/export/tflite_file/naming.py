"""Names for the graphs and tensors of a .tflite file with signatures and variables, for whoever opens it in a viewer.

Interpreters find inputs and outputs by their signatures, so names change no result. Tensors alike have one name, so
that what is written once in the file stays so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.export.tflite_file.graph import DTYPES, Model
from keras_cbpnet.export.tflite_file.sharing import SharingBuilder

FEW = 4  # entries of a constant that is named by its values


def named(content: bytes, constants: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the .tflite file `content` with names.

    Graphs are called as their signatures, and `start` what sets the variables once; inputs and outputs as in the
    signatures; a variable's value by the variable's name, what is assigned to it `new NAME`, and its handle
    `variable NAME`; a small constant by its values, and every other tensor by the operator that makes it, or `unused`.

    Args:
        content: the file.
        constants: large constants by name; others are called `constant`.
    """
    model = Model(content)
    for graph in model.root.subgraphs:
        graph.name = b"start"
        for tensor, name in _names(model, graph, constants).items():
            graph.tensors[tensor].name = name.encode()
    for signature in model.root.signatureDefs:
        graph = model.root.subgraphs[signature.subgraphIndex]
        graph.name = signature.signatureKey
        for entry in (*signature.inputs, *signature.outputs):
            graph.tensors[int(entry.tensorIndex)].name = entry.name
    return model.pack(SharingBuilder())


def _names(model: Model, graph: Any, constants: Mapping[str, NDArray[Any]]) -> dict[int, str]:
    names = dict.fromkeys(range(len(graph.tensors)), "unused")
    names.update({i: model.kind(op).lower() for op in graph.operators for i in op.outputs})
    for i, tensor in enumerate(graph.tensors):
        value = model.constant(graph, i) if tensor.type in DTYPES else None
        if value is not None:
            names[i] = _of_constant(value, constants)
    variables = model.variables(graph)
    for op in graph.operators:
        if model.kind(op) == "ASSIGN_VARIABLE":
            names[op.inputs[1]] = f"new {variables[op.inputs[0]]}"
    for op in graph.operators:
        if model.kind(op) == "READ_VARIABLE":
            names[op.outputs[0]] = variables[op.inputs[0]]
    return {**names, **{tensor: f"variable {name}" for tensor, name in variables.items()}}


def _of_constant(value: NDArray[Any], constants: Mapping[str, NDArray[Any]]) -> str:
    for name, known in constants.items():
        if value.size == known.size and np.allclose(value.ravel(), known.ravel(), rtol=1e-6, atol=0):
            return name
    if value.size > FEW:
        return "constant"
    numbers = ", ".join(f"{number:.7g}" for number in value.ravel())
    return numbers if value.size == 1 else f"[{numbers}]"
