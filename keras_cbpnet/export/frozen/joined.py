"""The backbone's file and a head's graph as one: every operator of the backbone stays as it is.

Dimensions: N pixels of a side, H x W pixels that the backbone takes, C classes, d features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.converter import convert_graph
from keras_cbpnet.export.tflite_file.graph import Model, shape_of
from keras_cbpnet.export.tflite_file.rewrites import drop_dead, raise_version
from keras_cbpnet.export.tflite_file.sharing import SharingBuilder

SIGNATURE = "serving_default"
ELEMENTWISE = ("CAST", "DEQUANTIZE", "QUANTIZE")
SCORES = 1.0 / 256.0  # scale of uint8 scores
STEPS = ((schema.TensorType.INT8, -128), (schema.TensorType.UINT8, 0))  # to them: TFLM makes no uint8 of floats


def head_graph(compute: Callable[[Any], Any], features: int) -> bytes:
    """Return `compute`, from a feature [1, d] to scores [1, C], float32, as a .tflite file of builtin operators."""
    graph = tf.function(compute, autograph=False).get_concrete_function(tf.TensorSpec([1, features], name="feature"))
    return convert_graph(graph)


def joined(backbone: bytes, head: bytes, scores: str, input_size: int = 0) -> bytes:
    """Return one graph `image` uint8 [1, H, W, 3] -> `scores` [1, C].

    Args:
        backbone: a bundle's backbone.tflite.
        head: as of `head_graph`.
        scores: their type, `uint8` (in steps of 1/256) or `float32`.
        input_size: N, where images [1, N, N, 3] are taken and resized inside; 0: of the backbone's own size.
    """
    model = Model(backbone)
    model.root.subgraphs = model.root.subgraphs[:1]  # of all blocks, where there are several
    graph, signature = model.root.subgraphs[0], model.signature(SIGNATURE)
    image = int(signature.inputs[0].tensorIndex)
    feature = next(int(each.tensorIndex) for each in signature.outputs if each.name == b"feature")
    if graph.tensors[feature].type != schema.TensorType.FLOAT32:
        feature = _converted(model, graph, feature, "DEQUANTIZE", "feature", schema.DequantizeOptionsT())
    found = _appended(model, graph, Model(head), feature)
    for kind, zero_point in STEPS if scores == "uint8" else ():
        found = _converted(model, graph, found, "QUANTIZE", "scores", schema.QuantizeOptionsT())
        quantization = schema.QuantizationParametersT(scale=[SCORES], zeroPoint=[zero_point])
        graph.tensors[found].type, graph.tensors[found].quantization = kind, quantization
    if input_size:
        image = _resized(model, graph, image, input_size)
    graph.tensors[image].name, graph.tensors[found].name = b"image", b"scores"
    graph.inputs, graph.outputs = [image], [found]
    entries = [schema.TensorMapT(name=name, tensorIndex=i) for name, i in ((b"image", image), (b"scores", found))]
    signature.inputs, signature.outputs = entries[:1], entries[1:]
    model.root.signatureDefs = [signature]
    model.root.metadata = None  # a plan of where the backbone's tensors lie is none of this graph's
    graph.name = b"classifier"
    drop_dead(graph)  # the prompt's number
    model.prune()
    return model.pack(SharingBuilder())


def _converted(model: Model, graph: Any, tensor: int, kind: str, name: str, options: Any) -> int:
    """Append an operator from one type to another; return its result, float32 until somebody says otherwise."""
    result = model.tensor(graph, name, shape_of(graph.tensors[tensor]), "float32")
    graph.operators.append(model.operator(kind, [tensor], [result], options))
    raise_version(model, kind, 2)
    return result


def _appended(model: Model, graph: Any, head: Model, feature: int) -> int:
    """Append the operators of `head` to `graph`, which read tensor `feature`; return the number of their result."""
    source = head.root.subgraphs[0]
    numbers = {-1: -1, int(source.inputs[0]): feature}
    for i, tensor in enumerate(source.tensors):
        if i in numbers:
            continue
        kept = copy.copy(tensor)
        data = head.root.buffers[tensor.buffer].data
        kept.buffer = 0 if data is None or not len(data) else model.buffer(bytes(data))
        kept.name, kept.quantization = None, None
        graph.tensors.append(kept)
        numbers[i] = len(graph.tensors) - 1
    for op in source.operators:
        kind, code = head.kind(op), head.root.operatorCodes[op.opcodeIndex]
        inputs, outputs = ([numbers[i] for i in each] for each in (op.inputs, op.outputs))
        graph.operators.append(model.operator(kind, inputs, outputs, op.builtinOptions))
        raise_version(model, kind, code.version)
    return numbers[int(source.outputs[0])]


def _resized(model: Model, graph: Any, image: int, size: int) -> int:
    """Let `graph` take images [1, N, N, 3]; return the tensor that holds them.

    They are brought to the nearest multiple of H x W, bilinear, of which means over squares are taken: so no pixel is
    left out when a large image becomes a small one. TFLM resizes int8 alone, so the types are converted before.
    """
    height, width = shape_of(graph.tensors[image])[1:3]
    readers = [op for op in graph.operators if image in op.inputs]
    place, before = 0, image
    if len(readers) == 1 and model.kind(readers[0]) in ELEMENTWISE:
        place, before = graph.operators.index(readers[0]) + 1, int(readers[0].outputs[0])

    def like(tensor: int, shape: tuple[int, ...]) -> int:
        added = copy.copy(graph.tensors[tensor])
        added.shape, added.name = list(shape), None
        graph.tensors.append(added)
        return len(graph.tensors) - 1

    large = like(before, (1, size, size, 3))
    factors = [max(1, round(size / side)) for side in (height, width)]
    middle = (1, height * factors[0], width * factors[1], 3)
    ops, found = [], large
    if middle[1:3] != (size, size):
        found = large if factors == [1, 1] else like(before, middle)
        shape = model.tensor(graph, "resized", [2], "int32", middle[1:3])
        options = schema.ResizeBilinearOptionsT()
        options.halfPixelCenters = True
        result = before if factors == [1, 1] else found
        ops.append(model.operator("RESIZE_BILINEAR", [large, shape], [result], options))
        raise_version(model, "RESIZE_BILINEAR", 3)
    if factors != [1, 1]:
        pool = schema.Pool2DOptionsT()
        pool.padding = schema.Padding.VALID
        pool.filterHeight = pool.strideH = factors[0]
        pool.filterWidth = pool.strideW = factors[1]
        ops.append(model.operator("AVERAGE_POOL_2D", [found], [before], pool))
        raise_version(model, "AVERAGE_POOL_2D", 2)
    if before == image:
        graph.operators[:0] = ops
        return large
    taken = like(image, (1, size, size, 3))
    readers[0].inputs, readers[0].outputs = [taken], [large]
    graph.operators[place:place] = ops
    return taken
