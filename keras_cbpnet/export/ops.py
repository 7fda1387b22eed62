"""The operators of a .tflite file, read from its flatbuffer."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tensorflow.lite.python import schema_py_generated as schema

_OP_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_TYPE_NAMES = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}


def op_table(model: bytes) -> list[dict[str, Any]]:
    """Return one row for each operator and type in `model`: `op`, `type` of its first output (or input), `count`.

    A custom operator, Flex among them, is named `CUSTOM:<its name>`.
    """
    graph = schema.ModelT.InitFromPackedBuf(model, 0)
    rows: Counter[tuple[str, str]] = Counter()
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators or []:
            code = graph.operatorCodes[operator.opcodeIndex]
            value = max(code.builtinCode, code.deprecatedBuiltinCode)
            name = _OP_NAMES[value]
            if name == "CUSTOM":
                name = f"CUSTOM:{code.customCode.decode()}"
            found = [
                i for tensors in (operator.outputs, operator.inputs) if tensors is not None for i in tensors if i >= 0
            ]
            kind = _TYPE_NAMES[subgraph.tensors[found[0]].type] if found else "-"
            rows[name, kind] += 1
    return [{"op": op, "type": kind, "count": count} for (op, kind), count in sorted(rows.items())]


def custom_ops(table: list[dict[str, Any]]) -> list[str]:
    """Return the names of the operators in `table` that are no builtin."""
    return sorted({row["op"] for row in table if row["op"].startswith("CUSTOM")})


def float_ops(table: list[dict[str, Any]]) -> list[str]:
    """Return the names of the operators in `table` that compute in floating point."""
    return sorted({row["op"] for row in table if row["type"].startswith("FLOAT")})
