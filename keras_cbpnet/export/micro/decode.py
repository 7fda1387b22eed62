"""Weights of a microcontroller's model in fewer bytes of flash: TFLM's operator DECODE makes them whole before use.

`lut:B` rounds the weights of each tensor to 2^B values, once and for every runtime, and keeps B bits for each of them.
`prune` keeps a bit for every weight and the values of those that are not zero; nothing is rounded, so it pays only
where many weights are zero. Neither saves time: the decoded weights are multiplied as before, and lie in the arena
meanwhile.

DECODE is in the stock sources and resolver of TFLM (`AddDecode`); no other runtime has it, so a bundle's
backbone.tflite stays without, and only the C++ arrays hold what is made here. The formats are those of
tensorflow/lite/micro/kernels/decode.cc.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.export.micro import memory
from keras_cbpnet.export.micro.compression import Compression
from keras_cbpnet.export.tflite_file.graph import DTYPES, Model
from keras_cbpnet.export.tflite_file.ops import WEIGHTED

__all__ = ["compress", "nearest", "pruned", "rounded", "saved", "table", "weight_buffers"]

DECODE = b"TFLM_DECODE"
LUT, PRUNING, VERSION = 0, 2, 1  # the first two bytes of an operand that says how to decode another
WHOLE_TENSOR = 0xF0  # one table of values for all channels
LEAST = 256  # bytes; a smaller tensor is left as it is


def rounded(content: bytes, compression: Compression | None) -> bytes:
    """Return the model `content` with the values that its compressed form will have; all else is as it was."""
    if compression is None or compression.kind != "lut":
        return content
    model = Model(content)
    for number in weight_buffers(model):
        data = model.root.buffers[number].data
        values = np.frombuffer(bytes(data), np.int8)
        model.root.buffers[number].data = nearest(values, compression.bits).view(np.uint8)
    return model.pack()


def compress(content: bytes, compression: Compression | None) -> bytes:
    """Return the model `content`, whose only graph has its final order, for TFLM alone: bit by bit the same results.

    A tensor that would not become smaller stays as it is.
    """
    if compression is None:
        return content
    model = Model(content)
    graph = model.root.subgraphs[0]
    encoded = {number: _encoded(model, number, compression) for number in weight_buffers(model)}
    made: dict[int, tuple[int, int]] = {}
    ops: list[Any] = []
    for op in graph.operators:
        if model.kind(op) in WEIGHTED and (found := encoded.get(graph.tensors[op.inputs[1]].buffer)) is not None:
            buffer = graph.tensors[op.inputs[1]].buffer
            if buffer not in made:
                parts = [np.frombuffer(part, np.uint8) for part in found]
                made[buffer] = tuple(  # type: ignore[assignment]
                    model.tensor(graph, "", part.shape, np.uint8, part) for part in parts
                )
            whole = copy.copy(graph.tensors[op.inputs[1]])
            whole.buffer = 0
            graph.tensors.append(whole)
            ops.append(model.custom_operator(DECODE, made[buffer], (len(graph.tensors) - 1,)))
            op.inputs[1] = len(graph.tensors) - 1
        ops.append(op)
    graph.operators = ops
    memory.write_plan(model, graph, share=False)
    return model.pack()


def nearest(values: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """Return `values` [n] rounded to 2^bits values, those whose squared errors sum to the least."""
    levels, index, count = np.unique(values, return_inverse=True, return_counts=True)
    if len(levels) <= 1 << bits:
        return values.copy()
    centre = np.empty(len(levels), np.int8)
    for start, end in _intervals(levels.astype(np.float64), count.astype(np.float64), 1 << bits):
        centre[start:end] = np.rint(np.average(levels[start:end], weights=count[start:end]))
    return centre[index]


def _intervals(levels: NDArray[np.float64], count: NDArray[np.float64], k: int) -> list[tuple[int, int]]:
    """Return the k intervals of ascending `levels` [m], each counted so often, with the least sum of squared errors.

    Exact, by dynamic programming (Wang and Song, The R Journal 3, 2011).
    """
    m = len(levels)
    n, s, q = (np.concatenate([[0.0], np.cumsum(count * levels**power)]) for power in (0, 1, 2))
    cost = np.full((m + 1, m + 1), np.inf)  # of levels i..j-1 in one interval
    for i in range(m):
        weight = n[i + 1 :] - n[i]
        cost[i, i + 1 :] = (q[i + 1 :] - q[i]) - (s[i + 1 :] - s[i]) ** 2 / weight
    best, cuts = cost[0], []
    for _ in range(k - 1):
        total = best[:, None] + cost  # (m + 1, m + 1): the last interval begins at i and ends before j
        cuts.append(total.argmin(axis=0))
        best = total.min(axis=0)
    ends = [m]
    for cut in reversed(cuts):
        ends.append(int(cut[ends[-1]]))
    bounds = [0, *reversed(ends)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def weight_buffers(model: Model) -> list[int]:
    """Return the buffers of int8 weights that nothing but dense and convolutional operators reads."""
    graph = model.root.subgraphs[0]
    operands = {op.inputs[1] for op in graph.operators if model.kind(op) in WEIGHTED}
    others = {i for op in graph.operators for i in op.inputs if i >= 0 and model.kind(op) not in WEIGHTED}
    others |= {i for op in graph.operators if model.kind(op) in WEIGHTED for i in (op.inputs[0], *op.inputs[2:])}
    held = {graph.tensors[i].buffer for i in others}
    found = []
    for i in sorted(operands):
        tensor = graph.tensors[i]
        constant = DTYPES[tensor.type] == np.int8 and model.constant(graph, i) is not None
        if constant and tensor.buffer not in held and model.size(graph, i) >= LEAST and not _offset(tensor):
            found.append(tensor.buffer)
    return list(dict.fromkeys(found))


def _offset(tensor: Any) -> bool:
    """Return whether zeros of the tensor are stored as another number."""
    zero_point = None if tensor.quantization is None else tensor.quantization.zeroPoint
    return zero_point is not None and bool(np.any(np.asarray(zero_point)))


def _encoded(model: Model, buffer: int, compression: Compression) -> tuple[bytes, bytes] | None:
    """Return the encoded weights and what says how to decode them; None where that would not be smaller."""
    values = np.frombuffer(bytes(model.root.buffers[buffer].data), np.int8)
    parts = pruned(values) if compression.kind == "prune" else table(values, compression.bits)
    return parts if sum(map(len, parts)) < len(values) else None


def pruned(values: NDArray[np.int8]) -> tuple[bytes, bytes]:
    """Return a bit for each of `values` [n], 1 where it is not zero, and the header with those that are not."""
    kept = values != 0
    return np.packbits(kept).tobytes(), bytes([PRUNING, VERSION, 0, 0, VERSION]).ljust(16, b"\0") + values[
        kept
    ].tobytes()


def table(values: NDArray[np.int8], bits: int) -> tuple[bytes, bytes]:
    """Return an index of `bits` bits for each of `values` [n], and the header with the values that they point at.

    Raises:
        ValueError: there are more than 2^bits values.
    """
    levels, index = np.unique(values, return_inverse=True)
    if len(levels) > 1 << bits:
        raise ValueError(f"{len(levels)} values do not fit {bits} bits: round them first")
    shifts = np.arange(bits - 1, -1, -1)
    packed = np.packbits(((index[:, None] >> shifts) & 1).astype(np.uint8)).tobytes()
    # The byte after the bits is the distance between the tables of two channels. TFLMs that do not know WHOLE_TENSOR
    # take a tensor with a scale a channel, such as a convolution's, for one with a table a channel: with 0, the same.
    header = bytes([LUT, VERSION, 0, 0, VERSION, WHOLE_TENSOR | bits]).ljust(16, b"\0")
    return packed, header + levels.tobytes()


def saved(before: bytes, after: bytes) -> dict[str, Any]:
    """Return the bytes of both forms of a model, and how many of the weights of the first are zero, 0..1."""
    model = Model(before)
    values = [np.frombuffer(bytes(model.root.buffers[number].data), np.int8) for number in weight_buffers(model)]
    zeros = float(np.mean(np.concatenate(values) == 0)) if values else 0.0
    return {"plain_bytes": len(before), "bytes": len(after), "zeros": zeros}
