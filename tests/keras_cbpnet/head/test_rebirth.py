"""Rebirths of the head's step, worked by hand."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.head_case import Case
from helpers.head_steps import random_case, train

from firmware_host.bundle import BLOCKS
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.head.equations import Head

# Dimensions: B rows, d features, h hidden units, C class slots.


def two_units(**changes):
    """mlp, one feature, two units, two classes: logits [relu(x), -3 relu(2 x)]."""
    settings = {"decay_rate": 0.5, "replacement_rate": 0.5, "maturity_threshold": 0, **changes}
    config = HeadConfig(block="mlp", units=2, slots=2, batch=1, **settings)
    state = Case("mlp", 1, 2, 2, 1, {}).start()
    state["class_mask"][:] = 1
    state["w1"], state["w2"] = np.float32([[1, 2]]), np.float32([[1, 0], [0, -3]])
    return Head(config, np.zeros(1, np.float32), np.ones(1, np.float32)), state


def step_of(head, state, rate=0.0, fresh=7.0):
    return train(head, state, np.float32([[1]]), np.int32([0]), np.ones(2, np.float32), rate, np.float32([fresh]))


def test_rebirth_worked_by_hand():
    head, state = two_units()
    slots = [slot + name for slot in ("m_", "v_") for name in ("w1", "b1", "w2")]
    for name in slots:
        state[name][:] = 0.25
    new, result = step_of(head, state)
    # hidden [1, 2]; utility 0.5 * [1 * 1, 2 * 3] = [0.5, 3], corrected by 1 - 0.5**1: [1, 6]: unit 0 goes.
    # debt 0 + 0.5 * 2 units - 1 = 0; b2 += w2[0] * (0.5 * 1) / 0.5 = [1, 0].
    assert result["replaced"] == 0
    np.testing.assert_array_equal(new["b2"], [1, 0])
    np.testing.assert_array_equal(new["w1"], [[7, 2]])
    np.testing.assert_array_equal(new["w2"], [[0, 0], [0, -3]])
    np.testing.assert_array_equal(new["utility"], [0, 3])
    np.testing.assert_array_equal(new["mean_activation"], [0, 1])
    np.testing.assert_array_equal(new["age"], [0, 1])
    assert new["replacement_debt"] == 0
    assert new["step"] == 1
    for name in slots:
        units = new[name] if name[2:] == "w1" else new[name].T  # the unit on the last axis
        assert np.all(units[..., 0] == 0), name
        assert np.all(units[..., 1] != 0), name
    # The unit was as active as on average, so nothing changes for this input.
    before, after = (head.infer(s, tf.constant([[1.0]]))["logits"].numpy() for s in (state, new))
    np.testing.assert_array_equal(before, after)


def test_rebirth_clears_the_bias_of_the_unit():
    head, state = two_units()
    state["b1"] = np.float32([0.5, 0.5])
    new, result = step_of(head, state)
    assert result["replaced"] == 0
    np.testing.assert_array_equal(new["b1"], [0, 0.5])


def test_the_lowest_index_goes_on_a_tie_and_only_one_a_step():
    head, state = two_units(replacement_rate=0.5)
    state["w1"] = np.float32([[-1, -1]])  # both silent: utility 0
    state["replacement_debt"] = np.float32(3)
    replaced, debts = [], []
    for _ in range(3):
        state, result = step_of(head, state, fresh=-1.0)
        replaced.append(int(result["replaced"]))
        debts.append(float(state["replacement_debt"]))
    # A reborn unit is of age 1 > 0 again one step later.
    assert replaced == [0, 0, 0]
    assert debts == [3, 3, 3]  # 1 more due in every step, 1 paid


def test_a_unit_must_be_older_than_the_maturity_threshold():
    head, state = two_units(maturity_threshold=3, replacement_rate=0.5)
    replaced, debts = [], []
    for _ in range(6):
        state, result = step_of(head, state)
        replaced.append(int(result["replaced"]))
        debts.append(float(state["replacement_debt"]))
    # Ages 4, 4 in the fourth step: 2 units are due half each; then unit 1 alone, which pays every second step.
    assert replaced == [-1, -1, -1, 0, -1, 1]
    assert debts == [0, 0, 0, 0, 0.5, 0]


def test_the_debt_waits_until_a_unit_is_eligible():
    head, state = two_units(maturity_threshold=1)
    state["replacement_debt"] = np.float32(1.5)
    state, result = step_of(head, state)
    assert result["replaced"] == -1
    assert state["replacement_debt"] == 1.5
    state["age"] = np.float32([0, 5])
    state, result = step_of(head, state)
    assert result["replaced"] == 1  # the only eligible one, though the other's utility is lower
    assert state["replacement_debt"] == 1.0


def test_the_utility_is_corrected_by_the_units_age():
    head, state = two_units(maturity_threshold=0)
    # After the step: utility [0.5 * 2.2 + 0.5 * 1, 0.5 * -4 + 0.5 * 6] = [1.6, 1]; ages [6, 1] correct by [63/64, 1/2].
    state["utility"], state["age"] = np.float32([2.2, -4]), np.float32([5, 0])
    _, result = step_of(head, state)
    assert result["replaced"] == 0  # 1.63 against 2, though 1.6 against 1 before the correction


@pytest.mark.parametrize("block", BLOCKS)
def test_rebirth_moves_the_function_by_the_activations_deviation_only(block):
    changes = {"maturity_threshold": 0, "replacement_rate": 0.2, "decay_rate": 0.0}  # trace = mean of this batch
    head, state, feature, label, mask = random_case(block, **changes)
    fresh = np.full(6, 0.3, np.float32)
    new, result = train(head, state, feature, label, mask, rate=0.0, fresh=fresh)
    j, valid = int(result["replaced"]), label >= 0
    activation = head.hidden(state, tf.constant(feature)).numpy()
    assert j == np.argmin(activation[valid].mean(axis=0) * np.abs(state["w2"]).sum(axis=1))
    shift = state["w2"][j] * activation[valid, j].mean()
    assert np.abs(shift).max() > 1e-2
    np.testing.assert_allclose(new["b2"], state["b2"] + shift, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(new["w1"][:, j], fresh)
    others = np.arange(5) != j
    for name in ("w1", "b1"):
        np.testing.assert_array_equal(new[name][..., others], state[name][..., others])
    np.testing.assert_array_equal(new["w2"][others], state["w2"][others])
