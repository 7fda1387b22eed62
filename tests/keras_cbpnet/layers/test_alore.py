"""The adapter of low-rank experts: a layer, and after merging the same function without it."""

import numpy as np
import pytest

from keras_cbpnet.layers.alore import ALoRE, _kronecker

# Dimensions: B rows, d width, n experts, r rank.
D, N, R = 12, 2, 4


def test_a_layer(checked):
    checked(ALoRE(N, R), np.random.default_rng(0).normal(size=(3, 5, D)).astype(np.float32), (3, 5, D))


def test_it_starts_as_the_identity():
    x = np.random.default_rng(1).normal(size=(4, D)).astype(np.float32)
    np.testing.assert_array_equal(ALoRE(N, R)(x), x)


def test_the_sum_of_kronecker_products():
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 5, 2))
    expected = sum(np.kron(a, b) for a, b in zip(left, right, strict=True))
    np.testing.assert_allclose(_kronecker(left, right), expected, rtol=1e-6)


def test_merged_it_is_the_same_function(randomised):
    rng = np.random.default_rng(3)
    layer = ALoRE(N, R)
    layer.build((None, D))
    randomised(layer)
    kernel, bias = rng.normal(size=(D, 7)).astype(np.float32), rng.normal(size=7).astype(np.float32)
    x = rng.normal(size=(6, D)).astype(np.float32)
    merged, same = layer.merge(kernel, bias)
    assert merged.shape == kernel.shape
    assert np.abs(merged - kernel).max() > 1e-3  # far more than the two may differ below
    np.testing.assert_array_equal(same, bias)
    np.testing.assert_allclose(x @ merged + same, np.asarray(layer(x)) @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize(("experts", "rank"), [(3, 4), (0, 4)])
def test_experts_that_do_not_divide_the_rank(experts, rank):
    with pytest.raises(ValueError, match="experts must divide rank"):
        ALoRE(experts, rank)


def test_experts_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="experts must divide the width, got 5 experts and width 12"):
        ALoRE(5, 10).build((None, D))
