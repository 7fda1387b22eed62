"""The operators of a .tflite file, read from its flatbuffer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from ai_edge_litert import schema_py_generated as schema

_OP_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_TYPE_NAMES = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
WEIGHTED = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")  # operand 1 of each
FLOATS = ("FLOAT16", "BFLOAT16", "FLOAT32", "FLOAT64")


class Weights(NamedTuple):
    """The constant operand of a dense or convolutional operator: type, number of entries, number of scales."""

    type: str
    entries: int
    scales: int


class Operator(NamedTuple):
    """One operator.

    name: the builtin's, or `CUSTOM:<its name>`, Flex among them.
    type: floating point where any tensor it reads or writes is, otherwise that of its first output (or input).
    weights: None where it has none, or they are not constant.
    constant: whether an input is a constant.
    """

    name: str
    type: str
    weights: Weights | None
    constant: bool = False


def operators(model: bytes) -> Iterator[Operator]:
    """Yield the operators of `model`, subgraph by subgraph, in the order in which they run."""
    graph = schema.ModelT.InitFromPackedBuf(model, 0)
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators or []:
            code = graph.operatorCodes[operator.opcodeIndex]
            name = _OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if name == "CUSTOM":
                name = f"CUSTOM:{code.customCode.decode()}"
            ends = [tensors for tensors in (operator.outputs, operator.inputs) if tensors is not None]
            types = [_TYPE_NAMES[subgraph.tensors[i].type] for tensors in ends for i in tensors if i >= 0]
            floating = [kind for kind in types if kind in FLOATS]
            inputs = [subgraph.tensors[i] for i in ([] if operator.inputs is None else operator.inputs) if i >= 0]
            constant = any(graph.buffers[tensor.buffer].data is not None for tensor in inputs)
            weights = _weights(graph, subgraph, operator, name)
            yield Operator(name, (floating or types or ["-"])[0], weights, constant)


def _weights(graph: Any, subgraph: Any, operator: Any, name: str) -> Weights | None:
    if name not in WEIGHTED or operator.inputs is None or len(operator.inputs) < 2:
        return None
    tensor = subgraph.tensors[operator.inputs[1]]
    data = graph.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        return None
    scale = None if tensor.quantization is None else tensor.quantization.scale
    entries = 1
    for size in tensor.shape:
        entries *= int(size)
    return Weights(_TYPE_NAMES[tensor.type], entries, 0 if scale is None else len(scale))


def op_table(model: bytes) -> list[dict[str, Any]]:
    """Return one row for each operator and type in `model`: `op`, `type`, `count` and, of constant weights, `weights`.

    The two types are those of `Operator`.
    """
    rows = Counter((each.name, each.type, each.weights.type if each.weights else "") for each in operators(model))
    return [
        {"op": op, "type": kind, "count": count, **({"weights": weights} if weights else {})}
        for (op, kind, weights), count in sorted(rows.items())
    ]


def custom_ops(table: list[dict[str, Any]]) -> list[str]:
    """Return the names of the operators in `table` that are not builtins."""
    return sorted({row["op"] for row in table if row["op"].startswith("CUSTOM")})


def float_ops(table: list[dict[str, Any]]) -> list[str]:
    """Return the names of the operators in `table` that compute in floating point."""
    return sorted({row["op"] for row in table if row["type"] in FLOATS})


def float_weights(model: bytes, entries: int) -> list[str]:
    """Return the dense and convolutional operators of `model` that hold more than `entries` weights as floats."""
    held = [(each.name, each.weights) for each in operators(model) if each.weights]
    floats = [(name, weights.entries) for name, weights in held if weights.type in FLOATS]
    return [f"{name} of {size:,}" for name, size in floats if size > entries]


def per_channel_dense(model: bytes) -> int:
    """Return how many FULLY_CONNECTED operators of `model` have integer weights with a scale for every channel."""
    dense = [each.weights for each in operators(model) if each.name == "FULLY_CONNECTED" and each.weights]
    return sum(weights.type.startswith("INT") and weights.scales > 1 for weights in dense)
