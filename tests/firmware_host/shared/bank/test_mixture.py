"""The mixture of block and bank: weighed by what each got right."""

import numpy as np
import pytest
from helpers.banks import C, D, K, R, gaussians

from firmware_host.shared.bank import Mixture, empty_bank


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def mixture_of(start=0.05):
    return Mixture(empty_bank(C, K, D, R), np.zeros(D), np.ones(D), start)


def test_the_mixture_follows_the_one_that_is_right(rng):
    feature, label, _ = gaussians(rng, 4, 60, spread=0.3)  # nearly the same: the bank is often wrong
    sure = np.full((len(label), C), 1e-4, np.float32)
    sure[np.arange(len(label)), label] = 1.0 - 7e-4
    mixture = mixture_of()
    assert mixture.weight == pytest.approx(0.05)
    for row in rng.permutation(len(label)):
        mixture.learn(sure[row][None], feature[row][None], label[row][None])
    assert mixture.weight > 0.95
    guess = np.full((1, C), 1 / C, np.float32)
    clear, clear_label, _ = gaussians(rng, 4, 60, spread=30.0)
    for row in rng.permutation(len(clear_label)):
        mixture.learn(guess, clear[row][None], clear_label[row][None])
    assert mixture.weight < 0.05


def test_probabilities_of_the_mixture_are_the_weighted_ones(rng):
    feature, label, _ = gaussians(rng, 4, 20)
    mixture = mixture_of(0.25)
    mixture.bank.learn(feature, label)
    block = rng.dirichlet(np.ones(C), 5).astype(np.float32)
    logits = mixture.bank.logits(feature[:5])
    bank = np.exp(logits - logits.max(axis=1, keepdims=True))
    bank /= bank.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixture.probabilities(block, feature[:5]), 0.25 * block + 0.75 * bank, atol=1e-5)
    np.testing.assert_allclose(mixture_of().probabilities(block, feature[:5]), block)  # a bank that knows nothing


@pytest.mark.parametrize("viewed", [0, 5, 20])
def test_images_and_their_views_count_as_many_as_the_images(rng, viewed):
    """A mean is no surer for views of the same images; each of 20 images counts for 4 (1 + 20 / 144) views."""
    feature, label, _ = gaussians(rng, 3, 20)
    row = np.flatnonzero(np.arange(len(label)) % 20 < viewed)
    views = feature[row] + np.float32(1.0)
    mixture = mixture_of()
    mixture.learn_apart(np.full((len(label), C), 1 / C, np.float32), feature, label, rng, (views, row))
    np.testing.assert_allclose(mixture.bank.sums.count[:3], 20.0, rtol=1e-6)
    weight = 4.0 * (1.0 + 20.0 / 144.0)
    means = [
        (weight * feature[label == c].sum(axis=0) + views[label[row] == c].sum(axis=0)) / (weight * 20 + viewed)
        for c in range(3)
    ]
    np.testing.assert_allclose(mixture.bank.sums.mean[mixture.bank.binding[:3] - 1], means, atol=1e-5)


def test_a_bank_alone_stays_alone(rng):
    feature, label, _ = gaussians(rng, 4, 20)
    mixture = mixture_of(0.0)
    for row in range(len(label)):
        mixture.learn(np.eye(C, dtype=np.float32)[label[row]][None], feature[row][None], label[row][None])
    assert mixture.weight == 0.0
