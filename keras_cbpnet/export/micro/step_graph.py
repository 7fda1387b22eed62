"""The converted head step for TFLM: state in variable tensors, few operators, few bytes alive at once."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.micro import memory
from keras_cbpnet.export.micro.lean import simplify
from keras_cbpnet.export.micro.variables import first_values, settle, take_variables
from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.rewrites import use_select_v2

INPUTS = ("feature", "label", "class_mask", "learning_rate", "fresh", "observe")
OUTPUTS = ("loss", "logits", "replaced")
SIGNATURE = "serving_default"


def lean_step(content: bytes) -> bytes:
    """Return the model `content`, one signature over resource variables, as one subgraph over variable tensors.

    The variables become outputs as well, after those of the signature. The result is for TFLM alone.
    """
    model = Model(content)
    graph = _signature_graph(model)
    start = next(graph for graph in model.root.subgraphs if not len(graph.inputs) and not len(graph.outputs))
    use_select_v2(model, graph)
    state = take_variables(model, graph, first_values(model, start))
    simplify(model, graph, state)
    memory.order(model, graph, state)
    graph.outputs = [*graph.outputs, *(variable.versions[0] for variable in state)]
    settle(model, graph, state)
    model.root.subgraphs = [graph]
    model.root.signatureDefs = [_signature(graph, (*OUTPUTS, *(variable.name for variable in state)))]
    memory.write_plan(model, graph)
    return model.pack()


def _signature_graph(model: Model) -> Any:
    """Return the converted subgraph, its inputs and outputs in this module's order."""
    signature = model.root.signatureDefs[0]
    graph = model.root.subgraphs[signature.subgraphIndex]
    for order, entries, attribute in (
        (INPUTS, signature.inputs, "inputs"),
        (OUTPUTS, signature.outputs, "outputs"),
    ):
        named = {entry.name.decode(): int(entry.tensorIndex) for entry in entries}
        setattr(graph, attribute, [named[name] for name in order])
        for name in order:
            graph.tensors[named[name]].name = name.encode()
    graph.operators = [op for op in graph.operators if model.kind(op) != "CALL_ONCE"]
    return graph


def _signature(graph: Any, outputs: tuple[str, ...]) -> Any:
    def entries(names: tuple[str, ...], tensors: list[int]) -> list[Any]:
        found = []
        for name, tensor in zip(names, tensors):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), int(tensor)
            found.append(entry)
        return found

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE.encode(), 0
    signature.inputs, signature.outputs = entries(INPUTS, graph.inputs), entries(outputs, graph.outputs)
    return signature
