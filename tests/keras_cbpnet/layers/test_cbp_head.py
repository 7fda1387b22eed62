"""The head as a Keras layer around the shared step."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.head_case import Case
from helpers.head_steps import head_layer

from firmware_host.bundle import BLOCKS
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.layers.cbp_head import CBPHead

# Dimensions: B rows, d features, h hidden units, C class slots.


@pytest.mark.parametrize("block", BLOCKS)
def test_head_layer(block, checked):
    layer = CBPHead(HeadConfig(block=block, units=4, slots=3, batch=2), own_step=True, name="head")
    layer.build((None, 5))
    rng = np.random.default_rng(4)
    layer.standardise(rng.normal(2, 3, (50, 5)).astype(np.float32))
    state = {name: rng.normal(size=variable.shape) for name, variable in layer.state.items()}
    layer.assign({**state, "class_mask": [1, 0, 1]})
    logits = checked(layer, rng.normal(size=(4, 5)).astype(np.float32), (4, 3))
    assert np.all(logits[:, 1] == -1e9)
    assert np.abs(logits[:, [0, 2]]).max() < 1e3
    assert layer.trainable_variables == []


def test_head_layer_passes_a_gradient_to_the_feature():
    layer = CBPHead(HeadConfig(units=4, slots=3), own_step=True)
    layer.build((None, 5))
    layer.assign({"class_mask": np.ones(3), "class_mean": np.eye(3, 5), "w2": np.ones((4, 5))})
    feature = tf.constant(np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(feature)
        loss = tf.reduce_sum(layer(feature)[:, 0])
    assert np.abs(tape.gradient(loss, feature)).max() > 1e-3


@pytest.mark.parametrize("block", BLOCKS)
def test_head_starts_as_the_contract_says(block):
    keras.utils.set_random_seed(1)
    layer = CBPHead(HeadConfig(block=block, units=64, slots=3), own_step=True)
    layer.build((None, 24))
    bound, w1 = math.sqrt(6 / 24), layer.state["w1"].numpy()
    assert layer.bound == pytest.approx(bound)
    assert 0.98 * bound < np.abs(w1).max() <= bound
    assert abs(w1.mean()) < 0.05
    for name, variable in layer.state.items():
        if name != "w1":
            assert np.all(variable.numpy() == 0), name


def test_standardise_keeps_flat_dimensions_from_exploding():
    layer = CBPHead(HeadConfig(units=2, slots=2), own_step=True)
    layer.build((None, 3))
    features = np.random.default_rng(0).normal([5, 0, 1], [2, 1, 0], (400, 3)).astype(np.float32)
    layer.standardise(features)
    x = (features - layer.feature_mean.numpy()) / layer.feature_scale.numpy()
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x[:, :2].std(axis=0), 1, atol=1e-5)
    typical = np.sqrt(np.mean(features.std(axis=0) ** 2))
    np.testing.assert_allclose(layer.feature_scale[2], 0.1 * typical, rtol=1e-5)


def test_head_layer_learns_in_place_with_any_number_of_rows():
    case = Case("prototype", 32, 16, 12, 8, {})
    layer, engine = head_layer(case, case.start()), case.numpy_head(case.start())
    learn = tf.function(
        lambda *batch: (layer.observe(*batch[:2]), layer.learn(*batch))[1],
        input_signature=[
            tf.TensorSpec([None, case.d]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([case.C]),
            tf.TensorSpec([]),
            tf.TensorSpec([case.d]),
        ],
    )
    for rows, (feature, label, *rest) in zip((8, 3, 1, 5), case.stream(4), strict=True):
        engine.observe(feature[:rows], label[:rows])
        expected = engine.train(feature[:rows], label[:rows], *rest)
        result = learn(feature[:rows], label[:rows], *rest)
        assert abs(float(result["loss"]) - expected.loss) <= 1e-5
        assert result["feature_gradient"].shape == (rows, case.d)
    for name, value in engine.state.items():
        np.testing.assert_allclose(layer.state[name], value, rtol=0, atol=1e-5, err_msg=name)


# The configuration ----------------------------------------------------------------------------------------------------


def test_head_config_survives_json():
    config = HeadConfig(block="mlp", units=3, replacement_rate=0.25)
    assert HeadConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"block": "linear"}, "block must be one of prototype, mlp, residual, got 'linear'"),
        ({"units": 20, "replacement_rate": 0.1}, r"replacement_rate \* units must be at most 1"),
        ({"unit": 3, "seed": 1}, "unknown key seed, unit; known keys: block, units"),
    ],
)
def test_a_bad_head_config_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        HeadConfig.from_dict(values)


def test_what_a_reborn_unit_draws_depends_on_seed_and_step():
    heads = [CBPHead(HeadConfig(units=2, slots=2), seed=seed, own_step=True) for seed in (3, 3, 4)]
    for head in heads:
        head.build((None, 50))
    first, again, other = (np.asarray(head.fresh(7.0)) for head in heads)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first).max() <= heads[0].bound
    for different in (other, np.asarray(heads[0].fresh(8.0))):
        assert np.abs(different - first).max() > 0.1 * heads[0].bound
    assert CBPHead.from_config(heads[2].get_config()).seed == 4
