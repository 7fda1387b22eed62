"""Views of small images: whole ones and windows of mosaics, what classes they show, and that they do not change."""

import numpy as np
import pytest

from keras_cbpnet.pretraining.views import views

COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 250]], np.uint8)


@pytest.fixture
def plain():
    """Eight images of one colour each, two a class."""
    labels = np.arange(8) % 4
    return np.broadcast_to(COLOURS[labels][:, None, None], (8, 16, 16, 3)).copy(), labels


def test_without_mosaics_every_image_is_a_view_in_order(plain):
    images, labels = plain
    seen, shares = views(images, labels, 4, 24, 8, 0.0, seed=0)
    np.testing.assert_array_equal(seen, np.broadcast_to(COLOURS[labels][:, None, None], (8, 24, 24, 3)))
    np.testing.assert_array_equal(shares, np.eye(4)[labels])


def test_a_windows_shares_are_the_areas_of_its_colours(plain):
    images, labels = plain
    seen, shares = views(images, labels, 4, 48, 40, 1.0, seed=0)
    assert seen.shape == (40, 48, 48, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    distance = np.abs(seen[:, :, :, None].astype(int) - COLOURS.astype(int)).sum(-1)  # (V, S, S, 4)
    area = np.eye(4)[distance.argmin(-1)].mean(axis=(1, 2))  # (V, 4)
    np.testing.assert_allclose(shares, area, atol=0.08)  # blurred borders
    assert (np.count_nonzero(shares, axis=1) > 1).any()


def test_views_depend_on_the_seed_alone(plain):
    images, labels = plain
    first, again = (views(images, labels, 4, 20, 6, 0.5, seed=3) for _ in range(2))
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)
    assert len(first[0]) == 6
    assert np.count_nonzero(first[1].max(axis=1) == 1) >= 3  # whole images
    assert not np.array_equal(first[0], views(images, labels, 4, 20, 6, 0.5, seed=4)[0])


def test_there_are_no_more_whole_images_than_images(plain):
    images, labels = plain
    assert len(views(images, labels, 4, 16, 100, 0.0, seed=0)[0]) == 8
