"""A .tflite file as objects to be rewritten: operators by name, tensors by number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

CODES = {name: value for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
NAMES = {value: name for name, value in CODES.items()}
DTYPES: dict[int, np.dtype[Any]] = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.INT16: np.dtype(np.int16),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.BOOL: np.dtype(np.bool_),
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.UINT8: np.dtype(np.uint8),
    schema.TensorType.RESOURCE: np.dtype(np.int32),
}
TYPES = {dtype: kind for kind, dtype in reversed(DTYPES.items()) if kind != schema.TensorType.RESOURCE}
IDENTIFIER = b"TFL3"


class Model:
    """The model in `content`, the bytes of a .tflite file."""

    def __init__(self, content: bytes) -> None:
        self.root = schema.ModelT.InitFromPackedBuf(content, 0)
        for graph in self.root.subgraphs:
            graph.operators = list(graph.operators or [])
            for op in graph.operators:
                op.inputs = [int(i) for i in (op.inputs if op.inputs is not None else [])]
                op.outputs = [int(i) for i in (op.outputs if op.outputs is not None else [])]

    def kind(self, op: Any) -> str:
        """Return the name of an operator's kind."""
        code = self.root.operatorCodes[op.opcodeIndex]
        return str(NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def signature(self, key: str) -> Any:
        """Return the signature called `key`."""
        return next(found for found in self.root.signatureDefs if found.signatureKey.decode() == key)

    def operator(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None) -> Any:
        """Return a new operator; `options` is the schema's object for its kind."""
        op = schema.OperatorT()
        op.opcodeIndex = self._code(CODES[kind])
        op.inputs, op.outputs = list(inputs), list(outputs)
        if options is not None:
            op.builtinOptions = options
            op.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        return op

    def custom_operator(self, name: bytes, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        """Return a new operator that is not a builtin but the one that a runtime knows by `name`."""
        op = schema.OperatorT()
        op.opcodeIndex = self._code(CODES["CUSTOM"], name)
        op.inputs, op.outputs = list(inputs), list(outputs)
        return op

    def _code(self, builtin: int, name: bytes | None = None) -> int:
        for index, code in enumerate(self.root.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and code.customCode == name:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
        code.customCode = name
        self.root.operatorCodes.append(code)
        return len(self.root.operatorCodes) - 1

    def variables(self, graph: Any) -> dict[int, str]:
        """Return the name of the variable of each handle of `graph`."""
        made = [op for op in graph.operators if self.kind(op) == "VAR_HANDLE"]
        return {op.outputs[0]: op.builtinOptions.sharedName.decode() for op in made}

    def tensor(self, graph: Any, name: str, shape: Sequence[int], dtype: Any, value: Any = None) -> int:
        """Add a tensor to `graph`, with `value` a constant, and return its number."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), TYPES[np.dtype(dtype)], 0
        if value is not None:
            tensor.buffer = self.buffer(np.asarray(value, dtype).tobytes())
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def buffer(self, content: bytes) -> int:
        """Add a buffer and return its number."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self.root.buffers.append(buffer)
        return len(self.root.buffers) - 1

    def constant(self, graph: Any, tensor: int) -> NDArray[Any] | None:
        """Return the value of a constant tensor; None for another."""
        found = graph.tensors[tensor]
        data = self.root.buffers[found.buffer].data
        if data is None or len(data) == 0:
            return None
        return np.frombuffer(bytes(data), DTYPES[found.type]).reshape(shape_of(found))

    def size(self, graph: Any, tensor: int) -> int:
        """Return the bytes of a tensor."""
        found = graph.tensors[tensor]
        return int(np.prod(shape_of(found), dtype=np.int64)) * DTYPES[found.type].itemsize

    def prune(self) -> None:
        """Drop every tensor that no operator uses; the others get new numbers."""
        for graph in self.root.subgraphs:
            used = {i for op in graph.operators for i in (*op.inputs, *op.outputs) if i >= 0}
            self.renumber(graph, sorted(used | {int(i) for i in (*graph.inputs, *graph.outputs)}))

    def renumber(self, graph: Any, order: Sequence[int | None]) -> None:
        """Give tensor `order[i]` of `graph` the number i; None stands for a tensor that no operator uses.

        What `order` leaves out is dropped, and an operator's input that was dropped becomes -1, none.
        """
        numbers = {old: new for new, old in enumerate(order) if old is not None}
        graph.tensors = [schema.TensorT(shape=[]) if old is None else graph.tensors[old] for old in order]
        for op in graph.operators:
            op.inputs, op.outputs = ([numbers.get(i, -1) for i in each] for each in (op.inputs, op.outputs))
        graph.inputs, graph.outputs = ([numbers[int(i)] for i in each] for each in (graph.inputs, graph.outputs))
        for signature in self.root.signatureDefs or []:
            if self.root.subgraphs[signature.subgraphIndex] is graph:
                for entry in (*signature.inputs, *signature.outputs):
                    entry.tensorIndex = numbers[int(entry.tensorIndex)]

    def pack(self, builder: flatbuffers.Builder | None = None) -> bytes:
        """Return the bytes of the file, without operator codes and buffers that nothing uses.

        Args:
            builder: an empty one that writes in its own way.
        """
        _drop_unused(self.root)
        builder = flatbuffers.Builder(1 << 16) if builder is None else builder
        builder.Finish(self.root.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Return the shape of a tensor."""
    return tuple(int(n) for n in tensor.shape) if tensor.shape is not None else ()


def replace_input(ops: Iterable[Any], old: int, new: int) -> None:
    """Let every operator of `ops` that reads tensor `old` read `new`."""
    for op in ops:
        op.inputs = [new if i == old else i for i in op.inputs]


def _drop_unused(root: Any) -> None:
    """Drop operator codes and buffers that nothing uses; buffer 0 stays, it stands for none."""
    ops = [op for graph in root.subgraphs for op in graph.operators]
    codes = {old: new for new, old in enumerate(sorted({op.opcodeIndex for op in ops}))}
    for op in ops:
        op.opcodeIndex = codes[op.opcodeIndex]
    root.operatorCodes = [root.operatorCodes[old] for old in codes]
    holders = [tensor for graph in root.subgraphs for tensor in graph.tensors] + list(root.metadata or [])
    buffers = {old: new for new, old in enumerate(sorted({0, *(holder.buffer for holder in holders)}))}
    for holder in holders:
        holder.buffer = buffers[holder.buffer]
    root.buffers = [root.buffers[old] for old in buffers]
