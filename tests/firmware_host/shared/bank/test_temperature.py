"""Probabilities become as sure as they are right, and their order stays."""

import numpy as np
import pytest

from firmware_host.shared.bank import Mixture, empty_bank
from firmware_host.shared.bank.temperature import Temperature

D, C = 24, 10


@pytest.fixture
def rng():
    return np.random.default_rng(6)


def softmax(z):
    powered = np.exp(z - z.max(axis=1, keepdims=True))
    return powered / powered.sum(axis=1, keepdims=True)


def told(rng, images, exponent):
    """Return probabilities that are right where they are raised to `exponent`, and labels."""
    z = rng.normal(size=(images, C)) * 2.0
    label = np.array([rng.choice(C, p=row) for row in softmax(z)])
    return softmax(z / exponent).astype(np.float32), label


def fresh():
    return Temperature({"sure": np.zeros(2)})


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0.4, 1.0, 2.0])
@pytest.mark.parametrize("each", [3000, 100, 1])
def test_the_exponent_that_fits_is_found(rng, exponent, each):
    temperature = fresh()
    probabilities, label = told(rng, 3000, exponent)
    for start in range(0, len(label), each):
        temperature.take(probabilities[start : start + each], label[start : start + each], 1.0)
    assert np.exp(temperature.sure[0]) == pytest.approx(exponent, rel=0.12)


def test_the_order_stays_and_so_does_what_is_impossible(rng):
    temperature = fresh()
    temperature.take(*told(rng, 400, 0.5), 1.0)
    before = told(rng, 200, 1.0)[0]
    before[:, 3] = 0.0
    after = temperature(before)
    np.testing.assert_array_equal(np.argsort(before, axis=1), np.argsort(after, axis=1))
    np.testing.assert_allclose(after.sum(axis=1), 1.0, atol=1e-6)
    assert not after[:, 3].any()
    assert after.max(axis=1).mean() < before.max(axis=1).mean() - 0.05
    assert not temperature(np.zeros((2, C), np.float32)).any()


def test_without_labelled_images_nothing_changes(rng):
    temperature, probabilities = fresh(), told(rng, 50, 1.0)[0]
    temperature.take(probabilities[:0], np.zeros(0, int), 1.0)
    np.testing.assert_allclose(temperature(probabilities), probabilities, atol=1e-6)


def test_few_images_move_it_little_and_certain_errors_are_survived(rng):
    temperature = fresh()
    temperature.take(np.eye(C, dtype=np.float32)[[0, 1]], np.array([1, 2]), 1.0)
    assert np.isfinite(temperature.sure).all()
    temperature = fresh()
    temperature.take(*told(rng, 2, 0.3), 1.0)
    assert 0.7 < np.exp(temperature.sure[0]) < 1.2


def test_what_was_seen_before_may_count_less(rng):
    found = []
    for share in (1.0, 0.05):
        temperature = fresh()
        temperature.take(*told(rng, 1000, 0.5), 1.0)
        temperature.take(*told(rng, 300, 1.5), share)
        found.append(np.exp(temperature.sure[0]))
    assert found[0] < 0.85
    assert found[1] > 1.2


def test_a_bank_is_nearly_as_sure_as_it_is_right(rng):
    """Of features that are independent it is much too unsure otherwise: it takes them as dependent."""
    centres = rng.normal(size=(C, D)) * 0.5
    label, seen = np.repeat(np.arange(C), 40), np.repeat(np.arange(C), 100)
    feature, test = ((centres[y] + rng.normal(size=(len(y), D))).astype(np.float32) for y in (label, seen))
    mixture, block = Mixture(empty_bank(C, C + 2, D, 4), np.zeros(D), np.ones(D), 0.0), np.zeros((1000, C), np.float32)
    mixture.learn_apart(block[: len(label)], feature, label, rng)
    after, before = mixture.probabilities(block, test), mixture._mixed(block, mixture._of_bank(test)[0])
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))
    right = np.mean(after.argmax(axis=1) == seen)
    assert right - before.max(axis=1).mean() > 0.2
    assert abs(right - after.max(axis=1).mean()) < 0.1
