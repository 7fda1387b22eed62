"""Boosting and compression: gradients by finite differences, weights of rare classes, and that old classes stay."""

from functools import partial

import numpy as np
import pytest

from firmware_host.shared import foster
from firmware_host.shared.foster import Foster, consolidate, effective_weights, module

# Dimensions: d features, h hidden units, C classes, B rows.
D, H, C, B = 6, 8, 5, 12


def net(classes, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (D, H), "b1": (H,), "w2": (H, D), "b2": (D,), "w3": (D, classes), "b3": (classes,)}
    return {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def blobs(classes, rows, seed):
    rng = np.random.default_rng(seed)
    label = np.resize(np.asarray(classes), rows)
    centre = np.random.default_rng(7).normal(0, 2.0, (C, D))
    return (centre[label] + rng.normal(0, 0.7, (rows, D))).astype(np.float32), label


def accuracy(weights, classes):
    x, y = blobs(classes, 400, 99)
    return np.mean((module(weights, x)[0] @ weights["w3"] + weights["b3"]).argmax(axis=1) == y)


def test_the_gradient_of_a_module_is_that_of_finite_differences():
    weights = {name: value.astype(np.float64) for name, value in net(C).items()}
    rng = np.random.default_rng(1)
    x, pull = rng.normal(size=(B, D)), rng.normal(size=(B, D))
    _, hidden = module(weights, x)
    for name, found in foster._module_gradients(weights, x, hidden, pull).items():
        place = tuple(size // 2 for size in weights[name].shape)
        moved = []
        for step in (1e-6, -1e-6):
            weights[name][place] += step
            moved.append(np.sum(module(weights, x)[0] * pull))
            weights[name][place] -= step
        assert found[place] == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-5, abs=1e-8), name


def test_the_gradient_of_a_soft_target_is_that_of_finite_differences():
    rng = np.random.default_rng(2)
    z, target = rng.normal(size=(B, C)), rng.dirichlet(np.ones(C), B)
    _, found = foster._soft(z, target)
    moved = []
    for step in (1e-6, -1e-6):
        z[3, 2] += step
        moved.append(foster._soft(z, target)[0])
        z[3, 2] -= step
    assert found[3, 2] == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-5)


def test_rare_classes_weigh_more():
    np.testing.assert_allclose(effective_weights(np.array([9, 9, 9]), 0.9), 1.0, rtol=1e-6)
    found = effective_weights(np.array([1, 2]), 0.5)
    raw = np.array([1.0, 0.5 / 0.75])  # (1 - beta) / (1 - beta^n)
    np.testing.assert_allclose(found, raw / raw.mean(), rtol=1e-6)
    np.testing.assert_array_equal(effective_weights(np.array([3, 300]), 0.0), 1.0)


def test_new_classes_are_learned_and_old_ones_stay():
    weights, rng = net(C, 3), np.random.default_rng(4)
    weights["w3"][:], weights["b3"][:] = 0, 0
    for known, seen, phases in ((0, range(3), [2.0] * 8), (3, range(C), [1.0] * 4 + [2.0] * 4)):
        rows = list(consolidate(weights, known, partial(blobs, seen, 400, known), FEW, rng))
        assert [row["phase"] for row in rows] == phases
        assert accuracy(weights, seen) > 0.9
    assert set(weights) == {"w1", "b1", "w2", "b2", "w3", "b3"}
    assert all(value.dtype == np.float32 for value in weights.values())


def test_old_answers_are_kept_where_nothing_new_is_said():
    """Without rows of new classes, the compressed net answers for the old ones as the old net did."""
    weights, rng = net(3, 5), np.random.default_rng(6)
    list(consolidate(weights, 0, lambda: blobs([0, 1, 2], 400, 1), FEW, rng))
    wider = {name: value.copy() for name, value in weights.items()}
    wider["w3"] = np.pad(wider["w3"], ((0, 0), (0, 1)))
    wider["b3"] = np.pad(wider["b3"], (0, 1))
    list(consolidate(wider, 3, lambda: blobs([0, 1, 2], 400, 2), FEW, rng))
    assert accuracy(wider, [0, 1, 2]) >= accuracy(weights, [0, 1, 2]) - 0.01


FEW = Foster(epochs=4, rate=5e-3, batch=32)
