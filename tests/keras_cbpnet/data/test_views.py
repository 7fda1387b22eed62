"""Camera views: the same from the same seed however images are given, each step does what it says, subjects stay."""

import numpy as np
import pytest

from keras_cbpnet.data import views

SIDE = 32


@pytest.fixture(scope="module")
def images():
    """Smooth random images, uint8 [40, 32, 32, 3]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (40, 8, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)


def test_a_view_follows_from_seed_and_number_alone(images):
    before = images.copy()
    whole = views.camera_views(images, seed=3)
    assert whole.dtype == np.uint8
    assert whole.shape == images.shape
    parts = [views.camera_views(images[:7], 3), views.camera_views(images[7:], 3, first=7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(images, before)
    changed = [np.any(a != b) for a, b in zip(whole, views.camera_views(images, seed=4))]
    assert np.mean(changed) > 0.9


def test_most_images_change_and_show_the_same_subject(images):
    seen = views.camera_views(images, seed=0)
    assert np.mean([np.any(a != b) for a, b in zip(images, seen)]) > 0.9
    flat, other = (x.reshape(len(x), -1).astype(float) for x in (images, seen))
    flat, other = (x - x.mean(axis=1, keepdims=True) for x in (flat, other))
    likeness = other @ flat.T / np.outer(np.linalg.norm(other, axis=1), np.linalg.norm(flat, axis=1))
    np.testing.assert_array_equal(likeness.argmax(axis=1), np.arange(len(images)))


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (17, 9)])
def test_any_size(shape):
    images = np.random.default_rng(0).integers(0, 256, (20, *shape, 3), dtype=np.uint8)
    assert views.camera_views(images, seed=0).shape == images.shape


def test_steps_cover_every_share(images):
    rng = np.random.default_rng(0)
    for share, step in views.STEPS:
        assert 0 < share < 1
        found = np.stack([step(images[0], rng) for _ in range(20)])
        assert found.dtype == np.uint8
        assert len(np.unique(found.reshape(20, -1), axis=0)) > 10, step.__name__


def detail(image):
    """Return the mean difference of neighbouring values."""
    return np.abs(np.diff(image.astype(float), axis=1)).mean()


def test_resolution_and_blur_take_detail():
    image = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    for step in (views.lower_resolution, views.blur):
        left = [detail(step(image, np.random.default_rng(seed))) for seed in range(30)]
        assert np.mean(left) < 0.8 * detail(image), step.__name__


def test_exposure_keeps_the_order_of_grey_levels():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    means = []
    for seed in range(30):
        row = views.expose(ramp, np.random.default_rng(seed))[0]
        assert np.all(np.diff(row.astype(int), axis=0) >= 0)
        np.testing.assert_array_equal(row[:, 0], row[:, 2])
        means.append(row.mean())
    assert min(means) < 100 < 130 < max(means)


def test_tint_is_one_gain_a_channel():
    grey = np.full((4, 4, 3), 100, np.uint8)
    low, high = views.COLOUR
    for seed in range(10):
        tinted = views.tint(grey, np.random.default_rng(seed))
        assert np.all(tinted == tinted[0, 0])
        assert np.all((tinted[0, 0] >= 100 * low - 1) & (tinted[0, 0] <= 100 * high + 1))


def test_noise_has_no_mean_and_the_deviation_that_is_allowed():
    grey = np.full((64, 64, 3), 128, np.uint8)
    spread = []
    for seed in range(20):
        noise = views.add_noise(grey, np.random.default_rng(seed)).astype(float) - 128
        assert abs(noise.mean()) < 0.6
        spread.append(noise.std())
    assert max(spread) < views.NOISE * 1.05
    assert max(spread) > 4 * min(spread)
