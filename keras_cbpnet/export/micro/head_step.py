"""head_step.tflite: the head's inference, observation and training step as one graph for TFLM.

TFLM runs one signature, so inputs say what to do: `observe` 1 takes the rows into the class means before all else;
`learning_rate` above 0 does one training step, at 0 nothing but the logits and the loss is computed. The state lives
in resource variables.
"""

from __future__ import annotations

import copy
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from keras_cbpnet.export.head import HeadModule
from keras_cbpnet.export.micro import lean, memory
from keras_cbpnet.export.micro.graph import DTYPES, Model, shape_of
from keras_cbpnet.layers.cbp_head import CBPHead

# Dimensions: B rows, d feature size, C class slots.

INPUTS = ("feature", "label", "class_mask", "learning_rate", "fresh", "observe")
OUTPUTS = ("loss", "logits", "replaced")
SIGNATURE = "serving_default"
MAIN, LEARN, REST, START = b"main", b"learn", b"rest", b"start"  # subgraphs


class StepModule(HeadModule):
    """Observation, forward pass and training step with one signature; the graph decides what of it runs."""

    def step(
        self, feature: Any, label: Any, class_mask: Any, learning_rate: Any, fresh: Any, observe: Any
    ) -> dict[str, Any]:
        """Return `loss` [], `logits` [B, C] (before the step) and `replaced` int32 [] (-1: none)."""
        state = self._values()
        seen = self.equations.observe(state, feature, label, observe)
        new, result = self.equations.train(seen, feature, label, class_mask, learning_rate, fresh)
        self._assign({name: new[name] for name in new if new[name] is not state[name]})
        return {name: result[name] for name in OUTPUTS}


def convert_head_step(head: CBPHead, batch: int) -> bytes:
    """Return `head` in its present state as a TFLite file for TFLM; float32, `batch` rows, static shapes.

    Inputs `feature` [B, d], `label` int32 [B] (-1 = empty row), `class_mask` [C], `learning_rate` [], `fresh` [d],
    `observe` []; outputs `loss` [], `logits` [B, C] (before the step), `replaced` int32 [] (-1: none).
    """
    model = Model(_convert(head, batch))
    main, start = _signature_graph(model), _start(model)
    lean.simplify(model, main)
    learn, crossing = _split(model, main)
    memory.order(model, main, crossing)
    memory.order(model, learn)
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 3
    main.operators.insert(0, model.operator("CALL_ONCE", (), (), once))
    model.root.subgraphs = [main, learn, _rest(model, learn), start]
    model.root.signatureDefs = [_signature(main)]
    model.prune()
    _plan(model)
    return model.pack()


def _convert(head: CBPHead, batch: int) -> bytes:
    c, d = head.config, head.width
    module = StepModule(head)

    def spec(name: str, *shape: int, dtype: Any = tf.float32) -> tf.TensorSpec:
        return tf.TensorSpec(shape, dtype, name=name)

    step = tf.function(module.step).get_concrete_function(
        spec("feature", batch, d), spec("label", batch, dtype=tf.int32), spec("class_mask", c.slots),
        spec("learning_rate"), spec("fresh", d), spec("observe"),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={SIGNATURE: step})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        return bytes(converter.convert())


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
    graph.name = MAIN
    return graph


def _start(model: Model) -> Any:
    """Return the subgraph that sets every variable once, each from a constant of its own that has its name."""
    used = set(model.variables(model.root.subgraphs[model.root.signatureDefs[0].subgraphIndex]).values())
    graph = next(graph for graph in model.root.subgraphs if not len(graph.inputs) and not len(graph.outputs))
    handles = model.variables(graph)
    ops = []
    for op in graph.operators:
        name = handles[op.outputs[0] if model.kind(op) == "VAR_HANDLE" else op.inputs[0]]
        if name not in used:
            continue
        if model.kind(op) == "ASSIGN_VARIABLE":
            value = model.constant(graph, op.inputs[1])
            if value is None:
                raise ValueError(f"variable {name} does not start from a constant")
            op.inputs[1] = model.tensor(graph, name, value.shape, value.dtype, value)
        ops.append(op)
    graph.operators, graph.name = ops, START
    return graph


def _split(model: Model, main: Any) -> tuple[Any, list[int]]:
    """Move what a step without learning does not need into a subgraph of its own, behind an IF.

    Returns:
        The subgraph, and the tensors of `main` that are its inputs.
    """
    results = [int(i) for i in main.outputs]
    replaced = results[OUTPUTS.index("replaced")]
    needed, seen = set(results) - {replaced}, {"class_mean", "class_count"}
    handles = model.variables(main)
    looks: list[Any] = []
    learns: list[Any] = []
    for op in reversed(main.operators):
        observes = model.kind(op) == "ASSIGN_VARIABLE" and handles[op.inputs[0]] in seen
        if observes or needed & set(op.outputs):
            needed |= set(op.inputs)
            looks.insert(0, op)
        else:
            learns.insert(0, op)
    learn = schema.SubGraphT()
    learn.name, learn.tensors, learn.operators = LEARN, [], []
    made = {i for op in learns for i in op.outputs}
    renamed: dict[int, int] = {}
    crossing: list[int] = []

    def moved(i: int) -> int:
        if i >= 0 and i not in renamed:
            learn.tensors.append(copy.copy(main.tensors[i]))
            renamed[i] = len(learn.tensors) - 1
            if i in handles and i not in made:
                maker = next(op for op in looks if i in op.outputs)
                learn.operators.append(model.operator("VAR_HANDLE", (), (renamed[i],), maker.builtinOptions))
            elif i not in made and model.constant(main, i) is None:
                crossing.append(i)
        return renamed.get(i, -1)

    for op in learns:
        inputs = [moved(i) for i in op.inputs]
        learn.operators.append(op)
        op.inputs, op.outputs = inputs, [moved(i) for i in op.outputs]
    learn.inputs, learn.outputs = [renamed[i] for i in crossing], [renamed[replaced]]

    zero = model.tensor(main, "zero", (), np.float32, 0.0)
    condition = model.tensor(main, "learns", (), np.bool_)
    rate = int(main.inputs[INPUTS.index("learning_rate")])
    branch = schema.IfOptionsT()
    branch.thenSubgraphIndex, branch.elseSubgraphIndex = 1, 2
    main.operators = [
        *looks,
        model.operator("GREATER", (rate, zero), (condition,), schema.GreaterOptionsT()),
        model.operator("IF", (condition, *crossing), (replaced,), branch),
    ]
    return learn, crossing


def _rest(model: Model, learn: Any) -> Any:
    """Return the other branch of the IF: the same inputs, and no unit reborn."""
    rest = schema.SubGraphT()
    rest.name, rest.tensors, rest.operators = REST, [], []
    found = [learn.tensors[i] for i in learn.inputs]
    rest.inputs = [model.tensor(rest, "unused", shape_of(tensor), DTYPES[tensor.type]) for tensor in found]
    rest.outputs = [model.tensor(rest, "none", (), np.int32, -1)]
    return rest


def _signature(main: Any) -> Any:
    def entries(names: tuple[str, ...], tensors: list[int]) -> list[Any]:
        found = []
        for name, tensor in zip(names, tensors):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), int(tensor)
            found.append(entry)
        return found

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE.encode(), 0
    signature.inputs, signature.outputs = entries(INPUTS, main.inputs), entries(OUTPUTS, main.outputs)
    return signature


def _plan(model: Model) -> None:
    """Give every tensor its place in the arena; the branches of the IF find their inputs where they lie already."""
    main, learn, _, start = model.root.subgraphs
    crossing = main.operators[-1].inputs[1:]
    plan = memory.offsets(model, main)
    shared = [plan[i] for i in crossing]
    results = [i for i in main.outputs if i not in main.operators[-1].outputs]  # `learn` must not write over these
    kept = [inside for i, inside in zip(crossing, learn.inputs) if i in results]
    taken = [(plan[i], memory.aligned(model.size(main, i))) for i in results if i not in crossing]
    plan += memory.offsets(model, learn, dict(zip(learn.inputs, shared)), kept, taken)
    plan += [*shared, -1, *memory.offsets(model, start)]
    memory.write_plan(model, plan)
