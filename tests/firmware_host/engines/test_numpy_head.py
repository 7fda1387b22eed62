"""The NumPy head: gradients against finite differences in float64, Adam and rebirth against cases worked by hand."""

import numpy as np
import pytest

from firmware_host.bundle import BLOCKS, DeviceError
from firmware_host.engines.numpy_head import NumpyHead


def loss64(config, state, feature, label, mask):
    """The loss of section 5, step 1, written for one row after the other, in float64."""
    s = {name: np.asarray(value, np.float64) for name, value in state.items()}
    mean, scale = np.array(config["feature_mean"]), np.array(config["feature_scale"])

    def g(x):
        return np.maximum(x @ s["w1"] + s["b1"], 0) @ s["w2"] + s["b2"]

    losses = []
    for row, target in zip(np.asarray(feature, np.float64), label):
        if target < 0:
            continue
        x = (row - mean) / scale
        if config["block"] == "mlp":
            z = g(x)
        elif config["block"] == "residual":
            z = (x + g(x)) @ s["w3"] + s["b3"]
        else:
            a = x + g(x)
            means = [(m - mean) / scale for m in s["class_mean"]]
            others = [m + g(m) for m in means]
            cosines = [a @ b / np.sqrt((a @ a + 1e-12) * (b @ b + 1e-12)) for b in others]
            z = config["logit_scale"] * np.array(cosines)
        z = np.where(np.asarray(mask) > 0, z, -1e9)
        losses.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[target])
    return np.mean(losses)


def random_case(make, block, seed=3, d=7, h=5, C=6, B=8):
    rng = np.random.default_rng(seed)
    mean, scale = rng.normal(size=d), rng.uniform(0.5, 2, d)
    config = make.head_config(
        block, d=d, h=h, slots=C, batch=B, feature_mean=mean.tolist(), feature_scale=scale.tolist(), logit_scale=3.0
    )
    state = make.start_state(config, seed)
    for name in BLOCKS[block].weights:
        state[name] = rng.normal(size=state[name].shape).astype(np.float32) * 0.5
    state["class_mean"] = rng.normal(size=(C, d)).astype(np.float32)
    feature = rng.normal(size=(B, d)).astype(np.float32)
    mask = np.array([1, 1, 0, 1, 1, 0], np.float32)
    label = np.array([0, 1, 3, -1, 4, 0, -1, 3], np.int32)
    return config, state, feature, label, mask


@pytest.mark.parametrize("block", BLOCKS)
def test_loss_and_gradients_equal_finite_differences(make, block):
    config, state, feature, label, mask = random_case(make, block)
    head = NumpyHead(config, state)
    result = head.train(feature, label, mask, 1e-3, np.zeros(7, np.float32))
    assert result.loss == pytest.approx(loss64(config, state, feature, label, mask), rel=1e-6)
    for name in BLOCKS[block].weights:
        gradient = head.state["m_" + name] / 0.1  # Adam's first moment after one step from zero
        base, epsilon = state[name].astype(np.float64), 1e-6
        expected = np.zeros_like(base)
        for index in np.ndindex(base.shape):
            sides = []
            for sign in (1, -1):
                moved = base.copy()
                moved[index] += sign * epsilon
                sides.append(loss64(config, {**state, name: moved}, feature, label, mask))
            expected[index] = (sides[0] - sides[1]) / (2 * epsilon)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(gradient, expected, atol=2e-6, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("block", BLOCKS)
def test_classes_outside_the_mask_change_nothing(make, block):
    config, state, feature, label, mask = random_case(make, block)
    other = {name: value.copy() for name, value in state.items()}
    if block == "prototype":
        other["class_mean"][mask == 0] += 5
    else:
        name = "b2" if block == "mlp" else "b3"
        other[name][mask == 0] += 5
    first, second = NumpyHead(config, state), NumpyHead(config, other)
    results = [head.train(feature, label, mask, 1e-3, np.zeros(7)) for head in (first, second)]
    assert results[0] == results[1]
    np.testing.assert_array_equal(first.state["w1"], second.state["w1"])


def test_prototype_epsilon_sits_inside_the_root_of_each_norm(make):
    config = make.head_config(d=2, h=1, slots=2, feature_mean=[0.0, 0.0], feature_scale=[1.0, 1.0])
    state = make.start_state(config)
    state["class_mean"][:] = [[1e-6, 0], [0, 1]]
    logits, _ = NumpyHead(config, state).infer(np.array([[2e-6, 0]], np.float32))
    assert logits[0, 0] == pytest.approx(20 * 2e-12 / np.sqrt((4e-12 + 1e-12) * (1e-12 + 1e-12)), rel=1e-5)
    assert logits[0, 1] == 0


def test_infer_gives_probabilities_over_the_states_classes_only(make):
    config = make.head_config("mlp", d=2, h=1, slots=3)
    state = make.start_state(config)
    state["b2"][:] = [1.0, 9.0, 2.0]
    state["class_mask"][:] = [1, 0, 1]
    logits, probabilities = NumpyHead(config, state).infer(np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(logits, [[1, 9, 2]])
    np.testing.assert_allclose(probabilities, [[1 / (1 + np.e), 0, np.e / (1 + np.e)]], rtol=1e-6)


def test_observe_equals_one_image_at_a_time_and_skips_empty_rows(make):
    config = make.head_config(d=3, h=2, slots=2)
    rng = np.random.default_rng(0)
    feature, label = rng.normal(size=(9, 3)).astype(np.float32), np.array([0, 1, -1, 0, 0, 1, -1, 0, 1])
    batch, single = (NumpyHead(config, make.start_state(config)) for _ in range(2))
    batch.observe(feature, label)
    for row, slot in zip(feature, label):
        single.observe(row[None], slot[None])
    for name, value in batch.state.items():
        np.testing.assert_array_equal(value, single.state[name])
    np.testing.assert_array_equal(batch.state["class_count"], [4, 3])
    np.testing.assert_allclose(batch.state["class_mean"][0], feature[label == 0].mean(axis=0), rtol=1e-5)


def test_adam_corrects_a_hidden_units_tensors_by_its_age_and_the_rest_by_the_step(make):
    config, state, feature, label, mask = random_case(make, "residual")
    config["block_rate"] = 0.5
    state["step"] = np.float32(50)
    state["age"][:] = [0, 3, 50, 7, 0]
    head = NumpyHead(config, state)
    head.train(feature, label, mask, 1e-2, np.zeros(7))
    for name, rate in {"w1": 5e-3, "b1": 5e-3, "w2": 5e-3, "b2": 5e-3, "w3": 1e-2, "b3": 1e-2}.items():
        gradient = head.state["m_" + name].astype(np.float64) / 0.1
        t = np.float64(51)
        if name in ("w1", "b1", "w2"):
            t = np.array([1, 4, 51, 8, 1], np.float64)
            t = t[:, None] if name == "w2" else t
        m, v = 0.1 * gradient / (1 - 0.9**t), 0.001 * gradient**2 / (1 - 0.999**t)
        expected = state[name] - rate * m / (np.sqrt(v) + 1e-8)
        np.testing.assert_allclose(head.state[name], expected, atol=1e-6, rtol=1e-5, err_msg=name)


def test_in_an_mlp_the_block_rate_spares_the_output_weights(make):
    config, state, feature, label, mask = random_case(make, "mlp")
    config["block_rate"] = 0.0
    head = NumpyHead(config, state)
    head.train(feature, label, mask, 1e-2, np.zeros(7))
    moved = {name: float(np.abs(head.state[name] - state[name]).max()) for name in ("w1", "b1", "w2", "b2")}
    assert moved["w1"] == moved["b1"] == 0
    assert moved["w2"] == pytest.approx(1e-2, rel=1e-3)
    assert moved["b2"] == pytest.approx(1e-2, rel=1e-3)


def rebirth_case(make, **changes):
    """mlp, one feature, two units, two classes: z = [relu(x), -3 relu(2 x)], worked by hand below."""
    settings = {"decay_rate": 0.5, "replacement_rate": 0.5, "maturity_threshold": 0, **changes}
    config = make.head_config("mlp", d=1, h=2, slots=2, batch=1, feature_mean=[0.0], feature_scale=[1.0], **settings)
    state = make.start_state(config)
    state["w1"][:] = [[1, 2]]
    state["w2"][:] = [[1, 0], [0, -3]]
    return config, state


def test_rebirth_worked_by_hand(make):
    config, state = rebirth_case(make)
    for name in ("m_w1", "v_w1", "m_w2", "v_w2", "m_b1", "v_b1"):
        state[name][:] = 0.25
    head = NumpyHead(config, state)
    before, _ = head.infer(np.array([[1.0]], np.float32))
    result = head.train(np.array([[1.0]]), np.array([0]), np.ones(2), 0.0, np.array([7.0]))
    s = head.state
    # hidden [1, 2]; utility 0.5 * [1 * 1, 2 * 3] = [0.5, 3]; corrected by 1 - 0.5**1: [1, 6]; so unit 0;
    # debt 0 + 0.5 * 2 units - 1; b2 += w2[0] * (0.5 * 1) / 0.5 = [1, 0]
    assert result.replaced == 0
    np.testing.assert_array_equal(s["b2"], [1, 0])
    np.testing.assert_array_equal(s["w1"], [[7, 2]])
    np.testing.assert_array_equal(s["w2"], [[0, 0], [0, -3]])
    np.testing.assert_array_equal(s["utility"], [0, 3])
    np.testing.assert_array_equal(s["mean_activation"], [0, 1])
    np.testing.assert_array_equal(s["age"], [0, 1])
    assert s["step"] == 1
    assert s["replacement_debt"] == 0
    for name in ("m_w1", "v_w1"):
        assert s[name][0, 0] == 0
        assert s[name][0, 1] != 0
    for name in ("m_w2", "v_w2", "m_b1", "v_b1"):
        assert np.all(s[name][0] == 0)
        assert np.all(s[name][1] != 0)
    after, _ = head.infer(np.array([[1.0]], np.float32))
    np.testing.assert_array_equal(before, after)


def test_rebirth_takes_the_lowest_index_on_a_tie_and_one_unit_a_step(make):
    config, state = rebirth_case(make, replacement_rate=1.0)
    state["w1"][:] = [[-1, -1]]  # both silent: utility 0
    head = NumpyHead(config, state)
    row = (np.array([[1.0]]), np.array([0]), np.ones(2), 0.0, np.array([-1.0]))
    assert [head.train(*row).replaced for _ in range(2)] == [0, 0]
    assert head.state["replacement_debt"] == 2  # 2 due and 1 made, twice


def test_only_units_older_than_the_maturity_threshold_count(make):
    config, state = rebirth_case(make, maturity_threshold=3, replacement_rate=1.0)
    state["age"][:] = [0, 2]
    head = NumpyHead(config, state)
    row = (np.array([[1.0]]), np.array([0]), np.ones(2), 0.0, np.array([9.0]))
    assert head.train(*row).replaced == -1  # ages 1 and 3: none is above 3
    assert head.state["replacement_debt"] == 0
    assert head.train(*row).replaced == 1  # the useful one, but the only one old enough
    assert head.state["replacement_debt"] == 0
    np.testing.assert_array_equal(head.state["age"], [2, 0])


@pytest.mark.parametrize("block", BLOCKS)
def test_a_batch_without_a_label_has_no_loss_but_time_goes_on(make, block):
    config, state, feature, _, mask = random_case(make, block)
    config.update(maturity_threshold=0, replacement_rate=0.01)
    state["utility"][:] = state["mean_activation"][:] = 1
    head = NumpyHead(config, state)
    result = head.train(feature, np.full(8, -1, np.int32), mask, 1e-2, np.zeros(7))
    assert result == (0.0, 0.0, -1)
    s = head.state
    assert s["step"] == 1
    np.testing.assert_array_equal(s["age"], 1)
    np.testing.assert_allclose(s["utility"], 0.99)
    np.testing.assert_allclose(s["mean_activation"], 0.99)
    assert s["replacement_debt"] == pytest.approx(0.05)
    for name in BLOCKS[block].weights:
        np.testing.assert_array_equal(s[name], state[name])


@pytest.mark.parametrize("block", BLOCKS)
def test_a_long_life_stays_float32_and_resumes_exactly(make, block):
    config, state, *_ = random_case(make, block)
    config.update(maturity_threshold=5, replacement_rate=0.02)
    rng = np.random.default_rng(0)

    def batch():
        fresh = rng.uniform(-1, 1, 7).astype(np.float32)
        return rng.normal(size=(8, 7)).astype(np.float32), rng.integers(-1, 6, 8), np.ones(6), 1e-2, fresh

    head = NumpyHead(config, state)
    reborn = [head.train(*batch()).replaced for _ in range(200)]
    assert sum(unit >= 0 for unit in reborn) > 10
    assert {value.dtype for value in head.state.values()} == {np.dtype(np.float32)}
    other, last = NumpyHead(config, head.get_state()), batch()
    assert head.train(*last) == other.train(*last)
    for name, value in head.get_state().items():
        np.testing.assert_array_equal(value, other.state[name])


def test_state_tensors_are_checked_and_copied(make):
    config = make.head_config()
    state = make.start_state(config)
    head = NumpyHead(config, state)
    head.get_state()["w1"][:] = 7
    state["w1"][:] = 7
    assert np.abs(head.state["w1"]).max() < 2
    with pytest.raises(DeviceError, match="'age' is missing"):
        head.set_state({name: value for name, value in state.items() if name != "age"})
    with pytest.raises(DeviceError, match=r"'b1' has shape \(3,\): this head needs \(5,\)"):
        head.set_state({**state, "b1": np.zeros(3)})
