"""Position embeddings of another image size."""

import numpy as np
import pytest
from PIL import Image

from keras_cbpnet.models.importers.positions import interpolate


def table(grid, seed=0):
    return np.random.default_rng(seed).normal(size=(1, grid * grid + 1, 5)).astype(np.float32)


def test_positions_of_the_same_size_stay():
    position = table(7)
    assert interpolate(position, 50) is position


@pytest.mark.parametrize("grid", [4, 9, 14])
def test_positions_are_resized_as_pillow_resizes(grid):
    position = table(7)
    found = interpolate(position, grid * grid + 1)
    assert found.dtype == np.float32
    assert found.shape == (1, grid * grid + 1, 5)
    np.testing.assert_array_equal(found[:, 0], position[:, 0])
    for channel in range(5):
        picture = Image.fromarray(position[0, 1:, channel].reshape(7, 7), mode="F")
        resized = np.asarray(picture.resize((grid, grid), Image.Resampling.BICUBIC))  # antialiased, as torch's is
        np.testing.assert_allclose(found[0, 1:, channel].reshape(grid, grid), resized, rtol=0, atol=1e-5)


def test_constant_positions_stay_constant():
    found = interpolate(np.full((1, 50, 3), 0.7, np.float32), 26)
    np.testing.assert_allclose(found, 0.7, rtol=0, atol=1e-6)
