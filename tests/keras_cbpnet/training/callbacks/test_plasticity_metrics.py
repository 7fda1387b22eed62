"""PlasticityMetrics: for any model, the numbers that the definitions give."""

import keras
import numpy as np
import pytest

from keras_cbpnet import CBPHead, PlasticityMetrics, UnitResets, dead_unit_share, effective_rank
from keras_cbpnet.errors import UserError

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 40)


def compiled(model):
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def history(model, metrics, epochs=1, x=X, callbacks=()):
    return model.fit(x, Y, epochs=epochs, verbose=0, callbacks=[*callbacks, metrics]).history


def test_a_sequential_model():
    first = keras.layers.Dense(5, activation="relu", name="first")
    second = keras.layers.Dense(4, activation="tanh", name="second")
    model = compiled(keras.Sequential([keras.Input((6,)), first, second, keras.layers.Dense(3)]))
    kernel, bias = first.get_weights()
    first.set_weights([kernel, bias - np.array([100, 100, 0, 0, 0], np.float32)])  # two units that are never active
    found = history(model, PlasticityMetrics(X), epochs=2)
    hidden = np.maximum(X @ first.get_weights()[0] + first.get_weights()[1], 0)
    outer = np.tanh(hidden @ second.get_weights()[0] + second.get_weights()[1])
    assert found["dead_unit_share_first"][-1] == dead_unit_share(hidden) >= 0.4
    assert found["dead_unit_share_second"][-1] == 0.0
    assert found["dead_unit_share"][-1] == pytest.approx(dead_unit_share(hidden) / 2)
    assert found["effective_rank_first"][-1] == pytest.approx(effective_rank(hidden) / 5, rel=1e-4)
    assert found["effective_rank_second"][-1] == pytest.approx(effective_rank(outer) / 4, rel=1e-4)
    norm = np.sqrt(sum(np.sum(np.square(weight)) for weight in model.get_weights()))
    assert found["weight_norm"][-1] == pytest.approx(norm, rel=1e-5)
    assert found["units_reset"] == [0.0, 0.0]


@pytest.mark.slow
def test_a_model_of_ones_own_with_convolutions():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(7, 3, name="conv")
            self.relu = keras.layers.ReLU(name="relu")
            self.last = keras.layers.Dense(3)

        def call(self, x):
            return self.last(keras.ops.mean(self.relu(self.conv(x)), axis=(1, 2)))

    images = np.random.default_rng(2).normal(size=(40, 8, 8, 2)).astype(np.float32)
    model = compiled(Own())
    found = history(model, PlasticityMetrics(images, every=2), epochs=3, x=images)
    assert len(found["loss"]) == 3
    assert len(found["effective_rank"]) == 1
    assert "effective_rank_relu" not in found  # of one layer alone, the mean is it
    assert 0 < found["effective_rank"][0] <= 1
    assert "call" not in vars(model.relu)
    named = PlasticityMetrics(images, layers=["conv"])
    named.set_model(model)
    values = np.asarray(model.conv(images)).reshape(-1, 7)
    assert named.measure()["effective_rank"] == pytest.approx(effective_rank(values) / 7, rel=0.1)


@pytest.mark.slow
def test_a_head_with_unit_resets():
    sizes = {"units": 8, "slots": 3, "replacement_rate": 0.1, "maturity_threshold": 2}
    head = CBPHead(sizes)
    model = compiled(keras.Sequential([keras.Input((6,)), head]))
    found = history(model, PlasticityMetrics(X), epochs=4, callbacks=[UnitResets()])
    hidden = np.asarray(head.equations.hidden(head.values(), X))
    assert found["dead_unit_share"][-1] == dead_unit_share(hidden)
    assert found["effective_rank"][-1] == pytest.approx(effective_rank(hidden) / 8, rel=1e-4)
    assert sum(found["units_reset"]) == head.units_reset > 2


def test_bad_input_is_one_line():
    model = compiled(keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="only")]))
    for metrics, line in [
        (PlasticityMetrics(X), "no hidden layer that ends with an activation"),
        (PlasticityMetrics(X, layers=["hidden"]), r"the model has no layer hidden; it has .*only"),
    ]:
        with pytest.raises(UserError, match=line):
            history(model, metrics)
    with pytest.raises(UserError, match="every is 0"):
        PlasticityMetrics(X, every=0)
