"""Gradient accumulation: the parts of a batch give the weights of the whole one."""

import argparse

import keras
import numpy as np
import pytest

from keras_cbpnet.pretraining.accumulation import Parts
from keras_cbpnet.pretraining.epochs import adamw

B, D, K, STEPS, EPOCHS = 24, 5, 3, 4, 2


class Batches(keras.utils.PyDataset):
    """Random batches, and how often each was made."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(STEPS, B, D)).astype(np.float32)
        self.y = np.eye(K, dtype=np.float32)[rng.integers(0, K, (STEPS, B))]
        self.made = [0] * STEPS

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        self.made[index] += 1
        return self.x[index], {"label": self.y[index]}


def trained(parts):
    """Return the averaged weights after training, those after every part, and the batches."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((D,))
    hidden = keras.layers.Dense(8, activation="tanh")(inputs)
    model = keras.Model(inputs, {"label": keras.layers.Dense(K, activation="softmax", name="label")(hidden)})
    args = argparse.Namespace(weight_decay=0.1, ema=0.9, accumulate=parts)
    model.compile(adamw(args, STEPS * EPOCHS, 0.05), loss={"label": "categorical_crossentropy"})
    batches, last = Batches(), []
    kept = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: last.append([np.array(w) for w in model.trainable_variables])
    )
    model.fit(
        Parts(batches, parts) if parts > 1 else batches, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[kept]
    )
    return model.get_weights(), last, batches


@pytest.fixture(scope="module")
def whole():
    return trained(1)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 6])
def test_parts_give_the_weights_of_the_whole_batch(whole, parts):
    averaged, steps, batches = trained(parts)
    for one, other in zip(averaged, whole[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    for one, other in zip(steps[parts - 1 :: parts], whole[1], strict=True):  # every step, not the end alone
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
    assert max(np.abs(one - other).max() for one, other in zip(averaged, steps[-1], strict=True)) > 1e-3  # an average
    assert batches.made[1:] == [EPOCHS] * (STEPS - 1)  # not once a part; of the first batch, Keras takes the shapes


@pytest.mark.slow
def test_weights_stay_until_the_last_part():
    steps = trained(2)[1]
    for part in range(2, len(steps), 2):  # the first part of each further step
        for one, other in zip(steps[part - 1], steps[part], strict=True):
            np.testing.assert_array_equal(one, other)


def test_parts_are_in_order_and_read_in_any():
    batches = Batches()
    parts = Parts(batches, 3)
    assert len(parts) == 3 * STEPS
    for index in (5, 0, 4, 11):
        images, targets = parts[index]
        rows = slice(index % 3 * 8, index % 3 * 8 + 8)
        np.testing.assert_array_equal(images, batches.x[index // 3, rows])
        np.testing.assert_array_equal(targets["label"], batches.y[index // 3, rows])
