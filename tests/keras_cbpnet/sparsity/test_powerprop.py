"""Weights as powers of parameters: there and back, and the slope that of finite differences."""

import numpy as np
import pytest

from keras_cbpnet.sparsity.powerprop import slope, started, weights

W = np.array([-2.0, -0.3, 0.0, 0.01, 1.0, 3.0])


@pytest.mark.parametrize("alpha", [1.0, 2.0, 4.0])
def test_there_and_back(alpha):
    np.testing.assert_allclose(weights(started(W, alpha), alpha), W, rtol=1e-12)
    p, step = started(W, alpha), 1e-6
    finite = (weights(p + step, alpha) - weights(p - step, alpha)) / (2 * step)
    np.testing.assert_allclose(slope(p, alpha), finite, rtol=1e-5, atol=1e-5)
    assert weights(started(W.astype(np.float32), alpha), alpha).dtype == np.float32


def test_alpha_1_changes_nothing():
    np.testing.assert_array_equal(weights(W, 1.0), W)
    np.testing.assert_array_equal(slope(W, 1.0), np.ones(6))
