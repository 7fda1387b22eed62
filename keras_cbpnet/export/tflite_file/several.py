"""Several graphs of one backbone in one file: a signature each, and every buffer once."""

from __future__ import annotations

from collections.abc import Mapping

from keras_cbpnet.export.tflite_file.feature import SIGNATURE
from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.rewrites import raise_version
from keras_cbpnet.export.tflite_file.sharing import SharingBuilder

__all__ = ["with_signatures"]


def with_signatures(content: bytes, others: Mapping[str, bytes]) -> bytes:
    """Return the .tflite file `content` with the graphs of others beside its own; what is equal is written once.

    Args:
        content: whose signatures stay as they are.
        others: files of one graph, with the signature `serving_default`, by the name of the signature that each gets.
    """
    model = Model(content)
    for name, other in others.items():
        added = Model(other)
        graph, first = added.root.subgraphs[0], len(model.root.buffers)
        model.root.buffers += added.root.buffers
        for tensor in graph.tensors:
            tensor.buffer += first if tensor.buffer else 0  # 0 stands for none
        for op in graph.operators:
            kind, code = added.kind(op), added.root.operatorCodes[op.opcodeIndex]
            op.opcodeIndex = model.operator(kind, (), ()).opcodeIndex
            raise_version(model, kind, code.version)
        signature = added.signature(SIGNATURE)
        graph.name = signature.signatureKey = name.encode()
        signature.subgraphIndex = len(model.root.subgraphs)
        model.root.subgraphs.append(graph)
        model.root.signatureDefs.append(signature)
    return model.pack(SharingBuilder())
