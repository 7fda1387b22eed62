"""Names in head.tflite: every graph and tensor has one, and no result changes."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.head_case import Case

from firmware_host.bundle import state_shapes
from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.naming import named
from keras_cbpnet.export.tflite_file.slim import slim

# Dimensions: d features, h hidden units, C class slots, B rows.
D, H, C, B = 96, 64, 10, 16  # of the shared heads
MEAN, SCALE = Case("prototype", D, H, C, B, {}).constants
CONSTANTS = {"-feature_mean": -MEAN, "feature_scale": SCALE}
CALLS = ("infer", "observe", "train", "get_state", "set_state")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(heads):
    """The same head with and without names."""
    plain = slim((heads["prototype"][0] / "whole.tflite").read_bytes())
    return named(plain, CONSTANTS), plain


def names_of(graph):
    return [(tensor.name or b"").decode() for tensor in graph.tensors]


def test_every_graph_and_tensor_has_a_name(files):
    model = Model(files[0])
    assert sorted(graph.name.decode() for graph in model.root.subgraphs) == sorted([*CALLS, "start"])
    for graph in model.root.subgraphs:
        assert all(names_of(graph))
        assert all("/" not in name and ":" not in name for name in names_of(graph))


def test_names_are_those_of_the_contract(files):
    model = Model(files[0])
    graphs = {graph.name.decode(): set(names_of(graph)) for graph in model.root.subgraphs}
    state = set(state_shapes("prototype", D, H, C))
    assert state <= graphs["get_state"]
    assert state <= graphs["set_state"]
    assert {f"variable {name}" for name in state} <= graphs["start"]
    assert {"feature", "logits", "probabilities", "w1", "class_mean", "-feature_mean"} <= graphs["infer"]
    assert {"label", "class_mask", "learning_rate", "fresh", "loss", "accuracy", "replaced"} <= graphs["train"]
    assert {"new utility", "new w2", "new step", "0.99"} <= graphs["train"]
    assert not any(
        name.startswith(("serving", "train_", "arith", "StatefulPartitionedCall")) for name in graphs["train"]
    )


def test_names_cost_little_and_change_no_result(files):
    named, plain = files
    assert len(plain) < len(named) < len(plain) + 6000
    results = []
    for content in files:
        interpreter = tf.lite.Interpreter(model_content=content)
        run = {name: interpreter.get_signature_runner(name) for name in CALLS}
        found = [run["get_state"]()]
        for feature, label, class_mask, rate, fresh in Case("prototype", D, H, C, B, {}).stream(4):
            run["observe"](feature=feature, label=label)
            found.append(
                run["train"](feature=feature, label=label, class_mask=class_mask, learning_rate=rate, fresh=fresh)
            )
        found += [run["get_state"](), run["infer"](feature=feature[:1])]
        results.append(found)
    for one, other in zip(*results):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])
