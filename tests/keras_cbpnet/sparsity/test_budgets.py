"""Masks: exact counts, ties, densities that add up, swaps, and centring that keeps zeros."""

import numpy as np
import pytest

from keras_cbpnet.errors import UserError
from keras_cbpnet.sparsity.budgets import BUDGETS, centred, densities, masks, swapped, top

SHAPES = [(1152, 300), (300, 100), (100, 6)]


def test_the_largest_and_of_equal_ones_the_first():
    np.testing.assert_array_equal(top(np.array([[1.0, 3.0], [3.0, 3.0]]), 2), [[False, True], [True, False]])
    assert not top(np.ones(4), 0).any()


@pytest.mark.parametrize("density", [0.05, 0.2, 0.9, 1.0])
def test_erk_keeps_what_it_promises(density):
    found = densities(SHAPES, density)
    size = np.array([a * b for a, b in SHAPES])
    assert np.dot(found, size) == pytest.approx(density * size.sum())
    assert max(found) <= 1
    free = [(share, sum(shape) / np.prod(shape)) for share, shape in zip(found, SHAPES, strict=True) if share < 1]
    ratios = [share / raw for share, raw in free]
    assert ratios == pytest.approx([ratios[0]] * len(ratios)) if ratios else density == 1
    assert density < 0.9 or found[2] == 1  # the small layer is full, the others have its share


def test_a_share_for_every_layer_alike():
    assert densities(SHAPES, 0.1, "layer") == [0.1] * 3


@pytest.mark.parametrize("budget", BUDGETS)
def test_masks_have_so_many_members(budget):
    rng = np.random.default_rng(0)
    scores = [rng.random(shape) for shape in ((20, 30), (30, 5))]
    found = masks(scores, 0.2, budget)
    assert [mask.shape for mask in found] == [(20, 30), (30, 5)]
    assert abs(sum(mask.sum() for mask in found) - 150) <= 1
    for mask, each in zip(found, scores, strict=True):
        assert each[mask].min() > each[~mask].max() or budget == "global"


def test_a_swap_drops_the_least_and_grows_where_the_gradient_is():
    mask = np.array([True, True, True, True, False, False, False])
    keep = np.array([4.0, 1.0, 3.0, 2.0, 0, 0, 0])
    grow = np.array([9.0, 9.0, 9.0, 9.0, 0.1, 0.3, 0.2])
    np.testing.assert_array_equal(swapped(mask, keep, grow, 4, 0.5), np.array([1, 0, 1, 0, 0, 1, 1], bool))
    np.testing.assert_array_equal(swapped(mask, keep, grow, 2, 0.0), np.array([1, 0, 1, 0, 0, 0, 0], bool))
    assert swapped(mask, keep, grow, 6, 0.0).sum() == 6


def test_rows_of_mean_0_that_keep_their_zeros():
    rng = np.random.default_rng(1)
    kernel, mask = rng.normal(1, 1, (40, 16)), rng.random((40, 16)) < 0.2
    found = centred(kernel, mask)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)
    assert not found[~mask].any()
    several = mask.sum(axis=1) > 1
    assert np.all(found[several][mask[several]] != 0)
    assert not found[~several].any()
    np.testing.assert_allclose(centred(kernel, np.ones_like(mask)), kernel - kernel.mean(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: densities(SHAPES, 0.0), "density is 0; give the share of the weights that stays"),
        (lambda: densities(SHAPES, 1.5), "density is 1.5"),
        (lambda: densities(SHAPES, 0.5, "global"), "'global' has no densities of its own"),
        (lambda: masks([np.ones(3)], 0.5, "best"), "budget 'best' is unknown; choose one of global, layer, erk"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
