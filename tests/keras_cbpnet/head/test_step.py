"""The head's step: against the NumPy engine at every step, against finite differences, against cases worked by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
from helpers.head_case import Case
from helpers.head_steps import head_layer, numpy_of, random_case, train

from firmware_host.bundle import BLOCKS
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.head.equations import Head, masked, one_hot, one_minus_power, weight_names

# Dimensions: B rows, d features, h hidden units, C class slots.
LARGE = {"d": 32, "h": 16, "C": 12, "B": 8, "changes": {}}
SMALL = {"d": 7, "h": 3, "C": 5, "B": 1, "changes": {"replacement_rate": 0.02}}


# The same 500 batches to both implementations -------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shape", [LARGE, pytest.param(SMALL, marks=pytest.mark.slow)], ids=["32-16-12-8", "7-3-5-1"])
def test_step_equals_numpy_engine(block, shape):
    case = Case(block, **shape)
    layer, engine = head_layer(case, case.start()), case.numpy_head(case.start())

    @tf.function
    def step(feature, label, class_mask, learning_rate, fresh):
        layer.observe(feature, label)
        result = layer.learn(feature, label, class_mask, learning_rate, fresh)
        return [result[name] for name in ("loss", "accuracy", "replaced")], layer.values()

    rebirths, largest_utility = 0, 0.0
    for i, batch in enumerate(case.stream(500)):
        engine.observe(*batch[:2])
        expected = engine.train(*batch)
        (loss, accuracy, replaced), state = step(*batch)
        assert int(replaced) == expected.replaced, f"step {i}"
        assert abs(float(loss) - expected.loss) <= 1e-5, f"step {i}"
        assert abs(float(accuracy) - expected.accuracy) <= 1e-6, f"step {i}"
        assert set(state) == set(engine.state)
        for name, value in state.items():
            error = np.abs(value.numpy() - engine.state[name]).max()
            assert error <= 1e-5, f"step {i}: {name} differs by {error}"
        rebirths += expected.replaced >= 0
        largest_utility = max(largest_utility, engine.state["utility"].max())
    assert rebirths >= 5
    assert largest_utility > 0.01  # the traces carry something to choose by
    assert engine.state["step"] == 500


# The loss and its gradients, float64 ----------------------------------------------------------------------------------


def loss64(config, constants, state, feature, label, mask):
    """The loss of one row after the other, float64, from the equations of the three blocks."""
    s = {name: np.asarray(value, np.float64) for name, value in state.items()}
    mean, scale = (np.asarray(constant, np.float64) for constant in constants)

    def block(x):
        return np.maximum(x @ s["w1"] + s["b1"], 0) @ s["w2"] + s["b2"]

    losses = []
    for row, target in zip(np.asarray(feature, np.float64), label, strict=True):
        if target < 0:
            continue
        x = (row - mean) / scale
        if config.block == "mlp":
            z = block(x)
        elif config.block == "residual":
            z = (x + block(x)) @ s["w3"] + s["b3"]
        else:
            a, means = x + block(x), (s["class_mean"] - mean) / scale
            cosine = [a @ g / np.sqrt((a @ a + 1e-12) * (g @ g + 1e-12)) for g in (m + block(m) for m in means)]
            z = config.logit_scale * np.array(cosine)
        z = np.where(np.asarray(mask) > 0, z, -1e9)
        losses.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[target])
    return np.mean(losses)


def differences(function, value, epsilon=1e-6):
    """Central differences of `function` at `value`, float64."""
    value = np.asarray(value, np.float64)
    result = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        sides = []
        for sign in (1, -1):
            moved = value.copy()
            moved[index] += sign * epsilon
            sides.append(function(moved))
        result[index] = (sides[0] - sides[1]) / (2 * epsilon)
    return result


@pytest.mark.parametrize("block", BLOCKS)
def test_loss_and_every_gradient_equal_finite_differences(block):
    head, state, feature, label, mask = random_case(block)
    constants = head.feature_mean, head.feature_scale
    new, result = train(head, state, feature, label, mask)
    assert abs(result["loss"] - loss64(head.config, constants, state, feature, label, mask)) <= 1e-6
    for name in weight_names(block):
        expected = differences(
            lambda value, name=name: loss64(head.config, constants, {**state, name: value}, feature, label, mask),
            state[name],
        )
        assert np.abs(expected).max() > 1e-3, name
        # Adam's first moment after one step from zero is a tenth of the gradient.
        np.testing.assert_allclose(new[f"m_{name}"] / 0.1, expected, rtol=1e-4, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(new[f"v_{name}"] / 0.001, expected**2, rtol=1e-3, atol=2e-6, err_msg=name)
    by_feature = differences(
        lambda value: loss64(head.config, constants, state, value, label, mask), feature.astype(np.float64)
    )
    assert np.abs(by_feature[label >= 0]).max() > 1e-3
    np.testing.assert_allclose(result["feature_gradient"], by_feature, rtol=1e-4, atol=2e-6)
    assert np.all(result["feature_gradient"][label < 0] == 0)


@pytest.mark.parametrize("block", BLOCKS)
def test_feature_gradient_equals_the_tape(block):
    head, state, feature, label, mask = random_case(block)
    rows = tf.constant(feature)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        logits = masked(head.infer(state, rows)["logits"], mask)
        row_losses = tf.nn.sparse_softmax_cross_entropy_with_logits(np.maximum(label, 0), logits)
        loss = tf.reduce_sum(tf.where(label >= 0, row_losses, 0.0)) / np.sum(label >= 0)
    _, result = train(head, state, feature, label, mask)
    assert abs(result["loss"] - float(loss)) <= 1e-6
    np.testing.assert_allclose(result["feature_gradient"], tape.gradient(loss, rows), rtol=0, atol=1e-6)


# Adam -----------------------------------------------------------------------------------------------------------------


def test_first_adam_step_worked_by_hand():
    # mlp, x = 2: hidden relu(2 * 1) = 2, logits [0, 0], probabilities [1/2, 1/2], label 0: d = [-1/2, 1/2];
    # gradients w2 = 2 d, b2 = d, w1 = x * d w2' = 0, b1 = 0; a first step moves by rate * sign(gradient).
    head = Head(HeadConfig(block="mlp", units=1, slots=2, batch=1), np.zeros(1, np.float32), np.ones(1, np.float32))
    state = Case("mlp", 1, 1, 2, 1, {}).start()
    state["w1"] = np.ones((1, 1), np.float32)
    new, result = train(head, state, np.float32([[2.0]]), np.int32([0]), np.ones(2, np.float32), rate=0.25)
    assert abs(result["loss"] - math.log(2)) <= 1e-6
    assert result["replaced"] == -1
    assert result["accuracy"] == 1  # the first of two equal logits
    np.testing.assert_allclose(new["w2"], [[0.25, -0.25]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(new["b2"], [0.25, -0.25], rtol=0, atol=1e-6)
    np.testing.assert_allclose(new["m_w2"], [[-0.1, 0.1]], rtol=0, atol=1e-7)
    np.testing.assert_allclose(new["v_w2"], [[0.001, 0.001]], rtol=0, atol=1e-8)
    np.testing.assert_array_equal(new["w1"], [[1]])
    np.testing.assert_array_equal(new["b1"], [0])
    assert (new["step"], new["age"][0]) == (1, 1)
    # mean |h| = 2 before the update, sum |w2| = 0.5 after it
    np.testing.assert_allclose(new["utility"], [0.01 * 2 * 0.5], rtol=1e-5)
    np.testing.assert_allclose(new["mean_activation"], [0.01 * 2], rtol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_units_tensors_count_their_steps_by_its_age(block):
    head, state, feature, label, mask = random_case(block, block_rate=0.5)
    state["step"], state["age"] = np.float32(50), np.float32([0, 3, 50, 7, 0])
    rng = np.random.default_rng(8)
    for name in weight_names(block):
        state[f"m_{name}"] = rng.normal(0, 0.01, state[name].shape).astype(np.float32)
        state[f"v_{name}"] = rng.uniform(1e-4, 1e-3, state[name].shape).astype(np.float32)
    new, _ = train(head, state, feature, label, mask, rate=1e-2)
    assert new["step"] == 51
    np.testing.assert_array_equal(new["age"], [1, 4, 51, 8, 1])
    for name in weight_names(block):
        gradient = (new[f"m_{name}"].astype(np.float64) - 0.9 * state[f"m_{name}"]) / 0.1
        m = 0.9 * state[f"m_{name}"] + 0.1 * gradient
        v = 0.999 * state[f"v_{name}"] + 0.001 * gradient**2
        t = {"w1": new["age"][None, :], "b1": new["age"], "w2": new["age"][:, None]}.get(name, new["step"])
        t = t.astype(np.float64)
        block_tensor = name in ("w1", "b1") or (block != "mlp" and name in ("w2", "b2"))
        rate = 1e-2 * (0.5 if block_tensor else 1)
        expected = state[name] - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert np.abs(expected - state[name]).max() > 1e-4
        np.testing.assert_allclose(new[name], expected, rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 0.0])
def test_one_minus_power_has_no_cancellation(beta):
    exponent = np.array([1, 2, 3, 10, 100, 1e3, 1e4, 1e6], np.float32)
    exact = [1.0 if beta == 0 else -math.expm1(n * math.log(beta)) for n in exponent.tolist()]
    np.testing.assert_allclose(one_minus_power(beta, tf.constant(exponent)), exact, rtol=5e-7)


# Rows, classes, state -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS)
def test_empty_rows_do_not_count(block):
    head, state, feature, label, mask = random_case(block)
    valid = label >= 0
    wild = np.where(valid[:, None], feature, np.float32(50))
    new, result = train(head, state, wild, label, mask)
    compact, expected = train(head, state, feature[valid], label[valid], mask)
    assert abs(result["loss"] - expected["loss"]) <= 1e-6
    assert abs(result["accuracy"] - expected["accuracy"]) <= 1e-6
    for name, value in compact.items():
        # Adam divides by the gradient's size, so its tensors are compared before the division.
        if name not in weight_names(block):
            np.testing.assert_allclose(new[name], value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_batch_of_empty_rows_moves_the_counters_alone(block):
    head, state, feature, label, mask = random_case(block)
    state["utility"] = state["mean_activation"] = np.full(5, 0.5, np.float32)
    new, result = train(head, state, feature, np.full_like(label, -1), mask)
    assert (result["loss"], result["accuracy"], result["replaced"]) == (0, 0, -1)
    assert np.all(result["feature_gradient"] == 0)
    np.testing.assert_array_equal(new.pop("age"), state["age"] + 1)
    assert new.pop("step") == state["step"] + 1
    for name in ("utility", "mean_activation"):
        np.testing.assert_allclose(new.pop(name), 0.99 * 0.5, rtol=1e-6)
    for name, value in new.items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


@pytest.mark.parametrize("block", BLOCKS)
def test_classes_outside_the_mask_change_nothing(block):
    head, state, feature, label, mask = random_case(block)
    other = {name: value.copy() for name, value in state.items()}
    if block == "prototype":
        other["class_mean"][mask == 0] += 5
    else:
        other["b2" if block == "mlp" else "b3"][mask == 0] += 5
    new, result = train(head, state, feature, label, mask)
    changed, same = train(head, other, feature, label, mask)
    assert result["loss"] == same["loss"]
    np.testing.assert_array_equal(new["w1"], changed["w1"])
    np.testing.assert_array_equal(result["feature_gradient"], same["feature_gradient"])


@pytest.mark.parametrize("block", BLOCKS)
def test_training_leaves_the_classes_and_its_arguments_alone(block):
    head, state, feature, label, mask = random_case(block)
    before = {name: value.copy() for name, value in state.items()}
    new, _ = train(head, state, feature, label, mask)
    assert list(new) == list(state)
    for name in ("class_mask", "class_mean", "class_count"):
        np.testing.assert_array_equal(new[name], state[name])
    for name, value in before.items():
        np.testing.assert_array_equal(state[name], value)
        assert new[name].dtype == np.float32


@pytest.mark.parametrize("block", BLOCKS)
def test_infer_masks_the_probabilities_only(block):
    head, state, feature, _, _ = random_case(block)
    state["class_mask"] = np.array([1, 0, 1, 0, 1, 1], np.float32)
    all_seen = {**state, "class_mask": np.ones(6, np.float32)}
    found, free = (numpy_of(head.infer(s, tf.constant(feature))) for s in (state, all_seen))
    np.testing.assert_array_equal(found["logits"], free["logits"])
    powers = np.exp(found["logits"].astype(np.float64)) * state["class_mask"]
    np.testing.assert_allclose(found["probabilities"], powers / powers.sum(1, keepdims=True), rtol=0, atol=1e-6)
    assert np.all(found["probabilities"][:, [1, 3]] == 0)


def test_prototype_logits_are_scaled_cosines_with_the_epsilon_inside_each_root():
    config = HeadConfig(units=1, slots=2, logit_scale=20.0)
    head = Head(config, np.zeros(2, np.float32), np.ones(2, np.float32))
    state = {**Case("prototype", 2, 1, 2, 1, {}).start(), "class_mean": np.float32([[1e-6, 0], [0, 1]])}
    logits = head.infer(state, tf.constant([[2e-6, 0.0]]))["logits"].numpy()
    expected = 20 * 2e-12 / math.sqrt((4e-12 + 1e-12) * (1e-12 + 1e-12))
    np.testing.assert_allclose(logits, [[expected, 0]], rtol=1e-5)


def test_observe_of_a_batch_equals_one_image_at_a_time():
    head, state, _, _, _ = random_case("prototype")
    rng = np.random.default_rng(2)
    feature = rng.normal(3, 1, (9, 6)).astype(np.float32)
    label = np.array([0, 1, -1, 0, 0, 5, -1, 5, 0], np.int32)
    state["class_count"] = np.float32([2, 0, 7, 0, 0, 0])
    batch = numpy_of(head.observe(state, tf.constant(feature), tf.constant(label)))
    mean, count = state["class_mean"].astype(np.float64), state["class_count"].copy()
    for row, slot in zip(feature, label, strict=True):
        if slot >= 0:
            count[slot] += 1
            mean[slot] += (row - mean[slot]) / count[slot]
    np.testing.assert_array_equal(batch["class_count"], count)
    np.testing.assert_array_equal(count, [6, 1, 7, 0, 0, 2])
    np.testing.assert_allclose(batch["class_mean"], mean, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(batch["class_mean"][2:5], state["class_mean"][2:5])
    for name in set(state) - {"class_mean", "class_count"}:
        np.testing.assert_array_equal(batch[name], state[name])


def test_one_hot_of_an_index_outside_is_empty():
    found = one_hot(tf.constant([2, -1, 0, 3]), 3).numpy()
    np.testing.assert_array_equal(found, [[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]])


def test_masked_keeps_the_competing_logits_bit_by_bit():
    logits = np.float32([[1.2345678, -3e4, 7e-8]])
    np.testing.assert_array_equal(masked(logits, np.float32([1, 1, 1])), logits)
    np.testing.assert_array_equal(masked(logits, np.float32([0, 1, 0])), np.float32([[-1e9, -3e4, -1e9]]))
