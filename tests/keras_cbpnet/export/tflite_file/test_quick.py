"""Faster operators in head.tflite: which forms are gone, that results stay, and tflite-runtime's trap."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.head_case import Case
from helpers.head_steps import head_layer

from firmware_host.bundle import BLOCKS
from keras_cbpnet.export import head as export_head
from keras_cbpnet.export.tflite_file import quick
from keras_cbpnet.export.tflite_file.graph import Model, replace_input, shape_of
from keras_cbpnet.export.tflite_file.rewrites import readers_of
from keras_cbpnet.export.tflite_file.slim import slim

pytestmark = pytest.mark.slow  # each builds or trains networks

CASE = Case("prototype", 24, 16, 20, 16, {"maturity_threshold": 2, "replacement_rate": 0.05})  # B * C above FEW


@pytest.fixture(scope="module")
def files():
    """The same head before and after."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("slim", "quicken"):
            patch.setattr(export_head, name, lambda content: content)
        patch.setattr(export_head, "named", lambda content, constants: content)
        plain = export_head.convert_head(head_layer(CASE, CASE.start()))
    return plain, quick.quicken(plain)


def slow_operators(content):
    """What a runtime computes slowly: kind and size of each."""
    model = Model(content)
    found = []
    for graph in model.root.subgraphs:
        for op in graph.operators:
            shapes = [shape_of(graph.tensors[i]) for i in op.inputs if i >= 0]
            constants = [model.constant(graph, i) is not None for i in op.inputs if i >= 0]
            size = np.prod(shape_of(graph.tensors[op.outputs[0]])) if op.outputs else 0
            kind = model.kind(op)
            computed = kind == "FULLY_CONNECTED" and not constants[1]
            broadcast = kind in ("DIV", "SUB") and len(set(shapes)) > 1 and any(constants) and size >= quick.FEW
            if computed or broadcast or (kind == "ABS" and size >= quick.FEW):
                found.append(kind)
    return found


def test_the_slow_forms_are_gone(files):
    plain, quickened = map(slow_operators, files)
    assert {"ABS", "FULLY_CONNECTED", "SUB"} <= set(plain)
    assert quickened == []


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_results_stay(files):
    traces = []
    for content in files:
        interpreter = tf.lite.Interpreter(model_content=content)
        run = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
        trace = [run["get_state"]()]
        for feature, label, class_mask, rate, fresh in CASE.stream(30):
            run["observe"](feature=feature, label=label)
            arguments = {"feature": feature, "label": label, "class_mask": class_mask, "learning_rate": rate}
            trace += [run["train"](**arguments, fresh=fresh), run["get_state"](), run["infer"](feature=feature[:1])]
        traces.append(trace)
    assert any(step.get("replaced", -1) >= 0 for step in traces[0])
    for one, other in zip(*traces):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, rtol=1e-4, atol=2e-5, err_msg=name)


def overwritten(model, graph):
    """Tensors that tflite-runtime 2.14 may write over while they are needed under their other shape."""
    last = {}
    for place, op in enumerate(graph.operators):
        for i in op.inputs:
            last[i] = place
    last.update({int(i): len(graph.operators) for i in graph.outputs})
    found = []
    for op in graph.operators:
        if model.kind(op) != "RESHAPE":
            continue
        pair = op.inputs[0], op.outputs[0]
        for one, other in (pair, pair[::-1]):
            end = graph.operators[last[one]] if last.get(one, -1) < len(graph.operators) else None
            if end is None or end is op or last[one] >= last.get(other, -1):
                continue
            if any(model.size(graph, i) == model.size(graph, one) for i in end.outputs):
                found.append((model.kind(end), shape_of(graph.tensors[one])))
    return found


@pytest.mark.parametrize("block", BLOCKS)
def test_nothing_is_written_over(heads, block):
    model = Model(slim((heads[block][0] / "whole.tflite").read_bytes()))
    for graph in model.root.subgraphs:
        assert overwritten(model, graph) == []


def test_what_would_be_written_over_is_found(heads):
    model = Model(slim((heads["mlp"][0] / "whole.tflite").read_bytes()))
    graph = model.root.subgraphs[model.signature("train").subgraphIndex]
    readers = readers_of(graph)
    (reshape, *_) = (op for op in graph.operators if model.kind(op) == "RESHAPE" and len(readers[op.inputs[0]]) > 1)
    rows = reshape.outputs[0]
    shape = shape_of(graph.tensors[rows])
    root = model.tensor(graph, "", shape, np.float32)
    replace_input(graph.operators, rows, root)
    graph.operators.insert(graph.operators.index(reshape) + 1, model.operator("SQRT", (rows,), (root,)))
    assert overwritten(model, graph) == [("SQRT", shape)]
