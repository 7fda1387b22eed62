"""The 16-bit softmax that the fine part of attention's probabilities is taken from; see `layers.attend`."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.sharing import SharingBuilder

STEP, ZERO = 1 / 65536, -32768  # of int16 probabilities, as TFLM asks
VERSION = 3  # of SOFTMAX, from which it writes int16


def refine(content: bytes) -> bytes:
    """Return the int8 .tflite file `content` with every fine part of a softmax taken from a softmax in 16 bits.

    The converter writes fine = SUB(softmax, coarse), all int8, and the softmax has steps of 1/256. TFLite's softmax
    also turns int8 scores into int16; a QUANTIZE to the fine part's own scale ends where the part does. A file without
    such parts is returned as it is.
    """
    model = Model(content)
    found = sum(_refine(model, graph) for graph in model.root.subgraphs)
    if not found:
        return content
    code = next(code for code in model.root.operatorCodes if code.builtinCode == schema.BuiltinOperator.SOFTMAX)
    code.version = max(code.version, VERSION)
    model.prune()
    return model.pack(SharingBuilder())


def _refine(model: Model, graph: Any) -> int:
    """Rewrite `graph`; return how many fine parts it has."""
    makers = {i: op for op in graph.operators for i in op.outputs}

    def made_by(i: int, kind: str) -> Any:
        op = makers.get(i)
        return op if op is not None and model.kind(op) == kind else None

    ops: list[Any] = []
    for op in graph.operators:
        softmax = made_by(op.inputs[0], "SOFTMAX") if model.kind(op) == "SUB" else None
        coarse = made_by(op.inputs[1], "SUB") if softmax else None
        if softmax is None or coarse is None or coarse.inputs[0] != softmax.outputs[0]:
            ops.append(op)
            continue
        wide = copy.copy(graph.tensors[softmax.outputs[0]])
        wide.name, wide.type = b"probability", schema.TensorType.INT16
        wide.quantization = schema.QuantizationParametersT(
            scale=np.array([STEP], np.float32), zeroPoint=np.array([ZERO], np.int64)
        )
        graph.tensors.append(wide)
        number = len(graph.tensors) - 1
        ops.append(model.operator("SOFTMAX", softmax.inputs, (number,), softmax.builtinOptions))
        ops.append(model.operator("QUANTIZE", (number,), op.outputs, schema.QuantizeOptionsT()))
    found = sum(op not in graph.operators for op in ops) // 2
    graph.operators = ops
    return found
