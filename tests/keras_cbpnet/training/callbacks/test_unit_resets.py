"""CBPHead under anybody's `fit`: the same numbers as the head's own step, and units that begin again."""

import keras
import numpy as np
import pytest

from keras_cbpnet import CBPHead, UnitResets
from keras_cbpnet.errors import UserError

D, H, C, B, STEPS = 6, 5, 4, 8, 60
SIZES = {"units": H, "slots": C, "batch": B, "decay_rate": 0.9, "replacement_rate": 0.02, "maturity_threshold": 4}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    label = rng.integers(0, C, STEPS * B).astype(np.int32)
    return (rng.normal(size=(STEPS * B, D)) + label[:, None]).astype(np.float32), label


def model_of(head, optimizer, **options):
    model = keras.Sequential([keras.Input((D,)), head])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return model


def fit(model, data, **options):
    return model.fit(*data, batch_size=B, shuffle=False, verbose=0, **options)


@pytest.mark.slow
@pytest.mark.parametrize("block", ["mlp", pytest.param("residual", marks=pytest.mark.slow)])
def test_fit_with_sgd_is_the_heads_own_step(data, block):
    own = CBPHead({**SIZES, "block": block, "optimizer": "sgd", "learning_rate": 0.05}, own_step=True)
    own.build((None, D))
    head = CBPHead({**SIZES, "block": block})
    resets = UnitResets()
    model = model_of(head, keras.optimizers.SGD(0.05))
    for name in head.state:
        head.state[name].assign(own.state[name])
    own.open(range(C))
    replaced = []
    for start in range(0, len(data[1]), B):
        rows = slice(start, start + B)
        result = own.learn(data[0][rows], data[1][rows], np.ones(C, np.float32))
        replaced.append(int(result["replaced"]))
    head.state["class_mask"].assign(np.ones(C))
    history = fit(model, data, callbacks=[resets])
    assert set(head.state) == set(own.state)
    for name, value in own.state.items():
        np.testing.assert_allclose(np.array(head.state[name]), np.array(value), rtol=1e-4, atol=1e-5, err_msg=name)
    count = sum(unit >= 0 for unit in replaced)
    assert count > 3
    assert resets.total == head.units_reset == count
    assert history.history["units_reset"] == [count]


@pytest.mark.slow
def test_with_adam_a_unit_begins_again_with_its_moments(data):
    head = CBPHead({**SIZES, "replacement_rate": 0.2})
    model = model_of(keras.Sequential([keras.layers.Dense(D, activation="relu"), head]), "adam")
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            age = np.array(head.state["age"])
            slots = [each for each in model.optimizer.variables if each.shape == head.state["w1"].shape]
            assert len(slots) == 2  # momentum and velocity
            for unit in np.flatnonzero(age == 0):
                assert not np.array(head.state["w2"])[unit].any()
                assert all(not np.array(slot)[:, unit].any() for slot in slots)
                seen.append(unit)
            old = np.flatnonzero(age > 2)
            assert all(np.array(slot)[:, old].any(axis=0).sum() > 0 for slot in slots) or not len(old)

    history = fit(model, data, epochs=2, callbacks=[UnitResets(), Watch()])
    assert len(seen) == sum(history.history["units_reset"]) > 10
    assert history.history["loss"][1] < history.history["loss"][0]


@pytest.mark.slow
def test_it_is_an_ordinary_layer(data, tmp_path):
    head = CBPHead({"units": H, "slots": C})
    model = model_of(head, "adam", metrics=["accuracy"])
    assert {each.name for each in head.trainable_weights} == {"w1", "b1", "w2", "b2"}
    history = fit(model, data, epochs=12, callbacks=[UnitResets()])
    assert history.history["accuracy"][-1] > history.history["accuracy"][0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(data[0], verbose=0), model.predict(data[0], verbose=0))
    assert again.layers[0].get_config() == head.get_config()
    fit(again, data, callbacks=[UnitResets()])
    assert float(again.layers[0].state["step"]) == 13 * STEPS


@pytest.mark.slow
def test_without_resets_it_is_a_dense_network(data):
    head = CBPHead({"units": H, "slots": C}, rule="none")
    dense = keras.Sequential([keras.Input((D,)), keras.layers.Dense(H, activation="relu"), keras.layers.Dense(C)])
    model = model_of(head, keras.optimizers.SGD(0.1))
    dense.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dense.set_weights([np.array(head.state[name]) for name in ("w1", "b1", "w2", "b2")])
    fit(model, data)
    fit(dense, data)
    np.testing.assert_allclose(model.predict(data[0], verbose=0), dense.predict(data[0], verbose=0), atol=1e-4)


def test_bad_input_is_one_line(data):
    with pytest.raises(UserError, match=r"block 'prototype' takes class means"):
        CBPHead({"block": "prototype"})
    with pytest.raises(UserError, match=r"rule 'redo' is part of the head's own step"):
        CBPHead({"block": "mlp"}, rule="redo")
    with pytest.raises(UserError, match="no CBPHead without own_step"):
        fit(model_of(CBPHead(SIZES, own_step=True), "adam"), data, callbacks=[UnitResets()])
    with pytest.raises(UserError, match="steps_per_execution is 2"):
        fit(model_of(CBPHead(SIZES), "adam", steps_per_execution=2), data, callbacks=[UnitResets()])


def test_a_head_saved_before_there_was_a_choice_has_its_own_step():
    config = CBPHead({"block": "prototype", "units": 2, "slots": 2}, own_step=True).get_config()
    del config["own_step"]
    assert CBPHead.from_config(config).own_step
