"""The learning rules worked by hand on a tiny head."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.head_case import Case

from keras_cbpnet.config import HeadConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.head.equations import Head, renew_units
from keras_cbpnet.plasticity.adalin import AdaLinHead
from keras_cbpnet.plasticity.rule import newborn_weights, trained
from keras_cbpnet.tables import RULES

# Dimensions: B rows, d features, h hidden units, C class slots.
CASE = Case("mlp", 4, 3, 3, 2, {})
RATE, SEED = np.float32(0.1), np.int32(7)


def make_state(case=CASE):
    """Every tensor with values that no rule gives by chance."""
    rng = np.random.default_rng(3)
    state = {name: rng.uniform(0.1, 1, value.shape).astype(np.float32) for name, value in case.start().items()}
    state["class_mask"][:] = 1
    state["age"][:] = (40, 50, 60)
    state["step"] = np.float32(159)
    return state


def after(rule, state, step=160):
    """What `rule` makes of a state of which the step only changed the step's number."""
    new = {**state, "step": np.float32(step)}
    return {n: np.array(v) for n, v in rule.after_step(state, tensors(new), RATE, SEED).items()}


def head_of(rule, case=CASE):
    return rule.head(HeadConfig(**case.settings), *case.constants)


def tensors(state):
    return {name: tf.constant(value) for name, value in state.items()}


def changed(before, now):
    return sorted(name for name in now if name != "step" and not np.array_equal(before[name], now[name]))


def test_registry_is_complete_and_its_settings_round_trip():
    names = "cbp cbp_random cbp_surprise none l2 l2_init shrink_perturb redo swr adalin head_reset stable"
    assert list(RULES) == names.split()
    for rule in RULES.values():
        assert rule.from_dict(rule().to_dict()) == rule()
        assert "Source" in (rule.__doc__ or "") or rule is RULES["none"]
    with pytest.raises(UserError, match="unknown key decya"):
        RULES["l2"].from_dict({"decya": 1})
    with pytest.raises(UserError, match="decay must be from 0 on, got -1"):
        RULES["l2"](decay=-1)


def test_only_cbp_and_its_kin_replace_units():
    config = HeadConfig(**CASE.settings)
    for name, rule in RULES.items():
        rate = config.replacement_rate if name.startswith("cbp") else 0
        assert rule().settings(config).replacement_rate == rate
    assert RULES["cbp"]().settings(config) == config


def test_a_device_goes_on_with_the_shared_step_and_with_surprise():
    assert [name for name, rule in RULES.items() if rule.on_device] == ["cbp", "cbp_surprise", "none"]


@pytest.mark.parametrize("name", ["cbp", "none"])
def test_cbp_and_none_are_the_shared_step(name):
    case = Case("mlp", 4, 3, 3, 2, {"replacement_rate": 0.3 if name == "cbp" else 0.0, "maturity_threshold": 2})
    config = HeadConfig(**{**case.settings, "replacement_rate": 0.3})
    rule = RULES[name]()
    head, plain = rule.head(config, *case.constants), Head(HeadConfig(**case.settings), *case.constants)
    state, expected, reborn = tensors(case.start()), tensors(case.start()), 0
    for batch in case.stream(8):
        state, result = rule.learn(head, state, *batch, SEED)
        expected, _ = plain.train(expected, *batch)
        reborn += int(result["replaced"]) >= 0
        for tensor, value in expected.items():
            np.testing.assert_array_equal(state[tensor], value)
    assert (reborn > 0) == (name == "cbp")


def test_l2_takes_the_share_of_the_weights_before_the_step():
    before = make_state()
    moved = {**before, "w1": before["w1"] + 1}
    now = RULES["l2"](decay=0.5).after_step(before, tensors(moved), RATE, SEED)
    np.testing.assert_allclose(now["w1"], before["w1"] + 1 - 0.05 * before["w1"], rtol=1e-6)
    np.testing.assert_allclose(now["b2"], 0.95 * before["b2"], rtol=1e-6)
    assert changed(moved, after(RULES["l2"](decay=0.5), moved)) == ["b1", "b2", "w1", "w2"]


def test_l2_init_pulls_to_the_first_weights():
    rule, first = RULES["l2_init"](decay=0.5), make_state()
    state = rule.start(first)
    np.testing.assert_array_equal(state["initial_w1"], first["w1"])
    state["w1"] = first["w1"] + 1
    now = after(rule, state)
    np.testing.assert_allclose(now["w1"], first["w1"] + 0.95, rtol=1e-6)
    np.testing.assert_allclose(now["w2"], 0.95 * first["w2"], rtol=1e-6)
    np.testing.assert_array_equal(now["initial_w1"], first["w1"])


def test_shrink_perturb_mixes_in_newborn_weights_between_tasks():
    rule, state = RULES["shrink_perturb"](shrink=0.4, perturb=0.3), make_state()
    assert changed(state, after(rule, state)) == []
    now = rule.begin_task(head_of(rule), tensors(state), SEED)
    fresh = np.array(newborn_weights(tensors(state), SEED))
    assert np.abs(fresh).max() <= np.sqrt(6 / 4)
    assert fresh.std() > 0.4  # of U(-1.22, 1.22): 0.71
    np.testing.assert_allclose(now["w1"], 0.4 * state["w1"] + 0.3 * fresh, rtol=1e-6)
    np.testing.assert_allclose(now["w2"], 0.4 * state["w2"], rtol=1e-6)
    assert changed(state, {n: np.array(v) for n, v in now.items()}) == ["b1", "b2", "w1", "w2"]


def test_newborn_weights_differ_between_steps_and_seeds():
    state = tensors(make_state())
    draws = [newborn_weights({**state, "step": tf.constant(s)}, seed) for s, seed in ((1.0, 0), (2.0, 0), (1.0, 1))]
    assert len({np.array(draw).tobytes() for draw in draws}) == 3
    np.testing.assert_array_equal(draws[0], newborn_weights({**state, "step": tf.constant(1.0)}, 0))


def test_redo_renews_dormant_units_at_its_interval_only():
    rule, state = RULES["redo"](threshold=0.5, interval=160, decay_rate=0.9), make_state()
    grown = 1 - 0.9 ** state["age"]
    state["mean_activation"] = (np.array([1.0, 0.24, 0.26]) * grown).astype(np.float32)  # average 0.5, threshold 0.25
    assert rule.settings(HeadConfig()).decay_rate == 0.9
    assert changed(state, after(rule, state, step=161)) == []
    now = after(rule, state)
    for name in ("w1", "m_w1", "v_w1"):
        np.testing.assert_array_equal(now[name][:, [0, 2]], state[name][:, [0, 2]])
    fresh = newborn_weights({**tensors(state), "step": tf.constant(160.0)}, SEED)
    np.testing.assert_array_equal(now["w1"][:, 1], fresh[:, 1])
    assert not now["m_w1"][:, 1].any()
    for name in ("w2", "b1", "m_w2", "v_w2", "m_b1", "v_b1", "age", "utility", "mean_activation"):
        assert not np.any(now[name][1]), name
        np.testing.assert_array_equal(now[name][[0, 2]], state[name][[0, 2]])
    np.testing.assert_array_equal(now["b2"], state["b2"])


def test_swr_replaces_the_weights_of_low_gradient_utility():
    rule, state = RULES["swr"](factor=0.5, interval=160), make_state()
    state["w1"] = np.full((4, 3), 2, np.float32)
    state["m_w1"] = np.full((4, 3), -1, np.float32)
    state["m_w1"][2, 1] = 0.4  # utility 0.8; average (11 * 2 + 0.8) / 12 = 1.9, half of it 0.95
    state["b2"], state["m_b2"] = np.float32([3, 1, 3]), np.float32([1, 1, 1])  # 1 is below 0.5 * 7 / 3
    state["w2"], state["m_w2"] = np.ones((3, 3), np.float32), np.ones((3, 3), np.float32)
    state["b1"], state["m_b1"] = np.ones(3, np.float32), np.ones(3, np.float32)
    assert changed(state, after(rule, state, step=161)) == []
    now = after(rule, state)
    expected = state["w1"].copy()
    expected[2, 1] = newborn_weights({**tensors(state), "step": tf.constant(160.0)}, SEED)[2, 1]
    np.testing.assert_array_equal(now["w1"], expected)
    np.testing.assert_array_equal(now["b2"], [3, 0, 3])
    assert changed(state, now) == ["b2", "w1"]


def test_head_reset_clears_the_last_layer_between_tasks():
    for case, names in ((CASE, ["b2", "m_b2", "m_w2", "w2"]), (CASE._replace(block="residual"), None)):
        state, rule = make_state(case), RULES["head_reset"]()
        assert changed(state, after(rule, state)) == []
        now = {
            name: np.array(value) for name, value in rule.begin_task(head_of(rule, case), tensors(state), SEED).items()
        }
        expected = names or ["b3", "m_b3", "m_w3", "w3"]
        assert changed(state, now) == expected
        assert not any(now[name].any() for name in expected)


def test_stable_holds_the_most_active_units_from_one_task_to_the_next():
    rule, state = RULES["stable"](share=0.4), make_state()  # one of three units
    state["mean_activation"] = np.float32([0.2, 0.9, 0.5])
    state = {name: np.array(value) for name, value in rule.start(tensors(state)).items()}
    new = {name: value + 1 for name, value in state.items() if name != "stable"}

    def step(before):
        found = rule.after_step(tensors(before), {**tensors(new), "stable": before["stable"]}, RATE, SEED)
        return {name: np.array(value) for name, value in found.items()}

    assert not state["stable"].any()
    np.testing.assert_array_equal(step(state)["w1"], new["w1"])  # nothing is held in the first task
    state = {name: np.array(value) for name, value in rule.begin_task(head_of(rule), tensors(state), SEED).items()}
    np.testing.assert_array_equal(state["stable"], [0, 1, 0])
    now = step(state)
    for name in ("w1", "m_w1", "v_w1"):
        np.testing.assert_array_equal(now[name][:, 1], state[name][:, 1])
        np.testing.assert_array_equal(now[name][:, [0, 2]], new[name][:, [0, 2]])
    for name in ("b1", "w2", "m_w2", "v_b1"):
        np.testing.assert_array_equal(now[name][1], state[name][1])
        np.testing.assert_array_equal(now[name][[0, 2]], new[name][[0, 2]])
    for name in ("b2", "age", "utility", "mean_activation", "step"):
        np.testing.assert_array_equal(now[name], new[name])


def test_adalin_by_hand_and_by_finite_differences():
    case = Case("mlp", 4, 3, 3, 5, {})
    rule = RULES["adalin"](alpha=0.25)
    head = rule.head(HeadConfig(**case.settings), *case.constants)
    np.testing.assert_allclose(
        head._activate({"alpha": np.float32([0.25, 0.5, 2])}, np.float32([[4, -4, -1]])), [[4, -2, -2]]
    )
    state = rule.start(tensors(make_state(case)))
    np.testing.assert_array_equal(state["alpha"], [0.25] * 3)
    assert trained(state) == ["w1", "b1", "w2", "b2", "alpha"]
    batch = next(case.stream(1))
    feature, target = batch[0], np.float32(np.random.default_rng(0).normal(size=(5, 3)))

    def loss(**changes):
        return float(np.sum(np.array(head._forward({**state, **changes}, feature)["logits"], np.float64) * target))

    gradients, _ = head._backward(state, head._forward(state, feature), tf.constant(target))
    for name in ("alpha", "w1", "b1", "w2"):
        place = (1,) * np.ndim(state[name])
        shift = np.zeros(state[name].shape, np.float32)
        shift[place] = 1e-2
        slope = (loss(**{name: state[name] + shift}) - loss(**{name: state[name] - shift})) / 2e-2
        assert abs(slope - float(np.array(gradients[name])[place])) < 2e-3 * max(1, abs(slope)), name
    now, _ = rule.learn(head, state, *batch, SEED)
    assert np.array(now["alpha"] != state["alpha"]).any()  # unit 1 was never negative


def test_adalin_without_slope_is_relu():
    state = {**make_state(), "alpha": np.zeros(3, np.float32)}
    config = HeadConfig(**CASE.settings)
    batch = next(CASE.stream(1))
    heads = [kind(config, *CASE.constants)._forward(state, batch[0])["logits"] for kind in (Head, AdaLinHead)]
    np.testing.assert_array_equal(*heads)


def test_renew_units_takes_a_column_for_each_unit():
    state = make_state()
    new = tensors(state)
    renew_units(new, np.float32([1, 0, 1]), np.arange(12, dtype=np.float32).reshape(4, 3))
    new = {name: np.array(value) for name, value in new.items()}
    np.testing.assert_array_equal(new["w1"][:, [0, 2]], np.arange(12).reshape(4, 3)[:, [0, 2]])
    np.testing.assert_array_equal(new["w1"][:, 1], state["w1"][:, 1])
    np.testing.assert_array_equal(new["age"], [0, 50, 0])


# Surprise -------------------------------------------------------------------------------------------------------------


def surprise_case(right, calm=60.0):
    """Rule, head, state and batch of a head that is sure of its classes, and is right or wrong."""
    case = Case("mlp", 4, 3, 3, 2, {"replacement_rate": 0.3, "maturity_threshold": 45})
    rule = RULES["cbp_surprise"](calming=20)
    head = rule.head(HeadConfig(**case.settings), *case.constants)
    state = rule.start(tensors(make_state(case)))
    state.update(calm=tf.constant(float(calm)), w2=20 * state["w2"], replacement_debt=tf.constant(1.0))
    feature, _, mask, rate, fresh = next(case.stream(1))
    logits = np.array(head.infer(state, feature)["logits"])
    label = logits.argmax(axis=1) if right else logits.argmin(axis=1)
    return rule, head, state, (feature, label.astype(np.int32), np.ones_like(mask), np.float32(rate), fresh)


@pytest.mark.parametrize(("right", "calm", "share"), [(True, 60, 1 / 4), (False, 60, 1 / 4), (False, 20, 1 / 2)])
def test_a_surprise_clears_the_last_layer_after_a_step_of_cbp(right, calm, share):
    rule, head, state, batch = surprise_case(right, calm)
    feature, label, mask, rate, fresh = batch
    expected, result = head.train(state, feature, label, mask, rate * np.float32(share), fresh)
    assert int(result["replaced"]) >= 0
    assert (float(result["loss"]) < np.log(3)) == right
    new, found = rule.learn(head, state, *batch, SEED)
    assert float(found["loss"]) == float(result["loss"])
    surprised = not right and calm >= 45
    assert float(new.pop("calm")) == (0 if surprised else calm + 1)
    cleared = ["w2", "m_w2", "b2", "m_b2"] if surprised else []
    for name, value in new.items():
        np.testing.assert_array_equal(value, 0 if name in cleared else expected[name], err_msg=name)


def test_fewer_classes_that_compete_make_a_guess_better():
    rule, head, state, (feature, label, mask, rate, fresh) = surprise_case(right=False)
    state.update({name: tf.zeros_like(state[name]) for name in ("w2", "b2")})
    mask = np.float32(np.arange(3) < 2)
    state["b2"] = tf.constant([0.0, 0.5, 9.0])
    for slot, surprised in ((0, True), (1, False)):  # loss 0.97 and 0.47; ln 2 = 0.69
        new, _ = rule.learn(head, state, feature, np.full_like(label, slot), mask, rate, fresh, SEED)
        assert (float(new["calm"]) == 0) == surprised
