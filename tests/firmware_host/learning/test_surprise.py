"""A head that notices when labels mean something else: when it is surprised, what then begins again, and how fast."""

import math

import numpy as np
import pytest

from firmware_host.bundle import read_bundle
from firmware_host.engines.protocol import TrainResult
from firmware_host.learning.surprise import SurprisedHead, noticing

GUESS = math.log(3)  # loss of a guess among three classes
MASK = np.array([1, 1, 1, 0], np.float32)


class Scripted:
    """A head whose losses are written down beforehand; it writes down the rates that it is given."""

    def __init__(self, losses, names):
        self.losses, self.rates = list(losses), []
        self.state = {name: np.full(2, 7.0, np.float32) for name in names}

    def train(self, feature, label, class_mask, learning_rate, fresh):
        self.rates.append(learning_rate)
        return TrainResult(self.losses.pop(0), 0.5, -1)

    def infer(self, feature):
        return feature, feature + 1

    def observe(self, feature, label):
        self.observed = (feature, label)

    def get_state(self):
        return {name: value.copy() for name, value in self.state.items()}

    def set_state(self, state):
        assert set(state) == set(self.state)
        self.state = {name: np.array(value) for name, value in state.items()}


ADAM = [prefix + name for name in ("w1", "b1", "w2", "b2") for prefix in ("", "m_", "v_")]
SGD = ["w1", "b1", "w2", "b2"]
RESIDUAL = [*ADAM, *(prefix + name for name in ("w3", "b3") for prefix in ("", "m_", "v_"))]


def step(head, rate=0.1):
    return head.train(None, None, MASK, rate, None)


def calm(head):
    return float(head.get_state()["calm"])


@pytest.mark.parametrize(
    ("block", "names", "cleared"),
    [
        ("mlp", ADAM, {"w2", "b2", "m_w2", "m_b2"}),
        ("mlp", SGD, {"w2", "b2"}),
        ("prototype", ADAM, {"w2", "b2", "m_w2", "m_b2"}),
        ("residual", RESIDUAL, {"w3", "b3", "m_w3", "m_b3"}),
    ],
)
def test_the_last_layer_begins_again_where_a_loss_is_worse_than_a_guess(block, names, cleared):
    inner = Scripted([0.1, GUESS + 1e-6, 0.1], names)
    head = SurprisedHead(inner, block, maturity=0, calming=0, calm=0)
    step(head)
    assert all(value.all() for value in inner.state.values())
    result = step(head)
    assert result == TrainResult(GUESS + 1e-6, 0.5, -1)
    assert {name for name, value in inner.state.items() if not value.any()} == cleared
    assert calm(head) == 0
    step(head)
    assert calm(head) == 1


def test_a_loss_no_worse_than_a_guess_is_no_surprise():
    inner = Scripted([GUESS, GUESS - 1e-6, float("nan")], ADAM)
    head = SurprisedHead(inner, "mlp", maturity=0, calming=0, calm=0)
    for _ in range(3):
        step(head)
    assert (calm(head), inner.state["w2"].all()) == (3, True)


@pytest.mark.parametrize(
    ("classes", "loss", "surprised"), [(1, 0.001, True), (0, 0.001, True), (2, 0.7, True), (2, 0.69, False)]
)
def test_a_guess_is_among_the_classes_that_compete(classes, loss, surprised):
    inner = Scripted([loss], ADAM)
    head = SurprisedHead(inner, "mlp", maturity=0, calming=0, calm=5)
    mask = np.zeros(4, np.float32)
    mask[:classes] = 1
    head.train(None, None, mask, 0.1, None)
    assert inner.state["w2"].any() == (not surprised)


def test_a_last_layer_is_spared_until_it_is_mature():
    inner = Scripted([9.0] * 8, ADAM)
    head = SurprisedHead(inner, "mlp", maturity=3, calming=0, calm=0)
    seen = []
    for _ in range(8):
        step(head)
        seen.append(calm(head))
    assert seen == [1, 2, 3, 0, 1, 2, 3, 0]


def test_the_rate_falls_to_a_half_in_the_steps_of_calming_after_a_surprise():
    inner = Scripted([0.1] * 20 + [9.0, 0.1], ADAM)
    head = SurprisedHead(inner, "mlp", maturity=0, calming=10, calm=0)
    for _ in range(22):
        step(head)
    np.testing.assert_allclose(inner.rates[:21], [0.1 / (1 + n / 10) for n in range(21)])
    assert inner.rates[10] == pytest.approx(0.05)
    assert inner.rates[21] == 0.1  # surprised: the whole rate again
    unslowed = Scripted([0.1] * 3, ADAM)
    head = SurprisedHead(unslowed, "mlp", maturity=0, calming=0, calm=1000)
    for _ in range(3):
        step(head)
    assert unslowed.rates == [0.1] * 3


def test_the_clock_is_part_of_the_state():
    inner = Scripted([], ADAM)
    head = SurprisedHead(inner, "mlp", maturity=1, calming=1, calm=12)
    state = head.get_state()
    assert state["calm"].shape == ()
    assert state["calm"].dtype == np.float32
    assert set(state) == {*ADAM, "calm"}
    head.set_state({**state, "calm": np.array(3, np.float32), "w1": np.ones(2)})
    assert calm(head) == 3
    np.testing.assert_array_equal(inner.state["w1"], [1, 1])
    head.observe("feature", "label")
    assert inner.observed == ("feature", "label")
    assert head.infer(3) == (3, 4)


def test_only_a_bundle_that_asks_for_it_is_surprised(make, bundle, tmp_path):
    inner = Scripted([9.0] * 9, RESIDUAL)
    assert noticing(read_bundle(bundle), inner) is inner
    settings = {"calming": 4.0, "calm": 6.0}
    path = make.write_bundle(tmp_path / "s", block="residual", maturity_threshold=8, surprise=settings)
    head = noticing(read_bundle(path), inner)
    assert calm(head) == 6
    step(head)
    assert inner.rates == [pytest.approx(0.1 / 2.5)]
    step(head)
    assert (calm(head), inner.state["w3"].all()) == (8, True)
    step(head)
    assert (calm(head), inner.state["w3"].any()) == (0, False)
