"""The feature of one backbone in the integers of another, so that a state learned with one serves the other."""

from __future__ import annotations

import copy
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.sharing import SharingBuilder

FEATURE = b"feature"
SIGNATURE = "serving_default"


def feature_as_in(content: bytes, other: bytes) -> bytes:
    """Return the .tflite file `content` with features of the type and scale that `other` has; float as they are."""
    model, like = Model(content), Model(other)
    graph = model.root.subgraphs[0]
    given, wanted = _feature(model), _feature(like)
    if like.root.subgraphs[0].tensors[wanted.tensorIndex].type == schema.TensorType.FLOAT32:
        return content
    stored = copy.copy(like.root.subgraphs[0].tensors[wanted.tensorIndex])
    stored.name, stored.buffer = FEATURE, 0
    graph.tensors.append(stored)
    before, after = int(given.tensorIndex), len(graph.tensors) - 1
    graph.operators.append(model.operator("QUANTIZE", [before], [after], schema.QuantizeOptionsT()))
    graph.outputs = [after if int(i) == before else int(i) for i in graph.outputs]
    given.tensorIndex = after
    return model.pack(SharingBuilder())


def _feature(model: Model) -> Any:
    """Return the signature's entry for the feature."""
    return next(entry for entry in model.signature(SIGNATURE).outputs if entry.name == FEATURE)
