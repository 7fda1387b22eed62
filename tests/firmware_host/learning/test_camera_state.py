"""What a device keeps of its camera, and what a lesson says of it, on made-up statistics."""

import numpy as np
import pytest

from firmware_host.bundle import ClassStatistics
from firmware_host.learning.camera_state import MOVED, UNCLEAR, CameraState, lesson_through

SLOTS, WIDTH, KNOWN = 10, 30, 4


@pytest.fixture
def world():
    """Statistics of four classes by 50 images each, and a function that makes images of ten."""
    rng = np.random.default_rng(0)
    centre = 2.0 * rng.normal(size=(SLOTS, WIDTH))

    def images(label, offset=0.0):
        return centre[label] + rng.normal(size=(len(label), WIDTH)) + offset

    statistics = ClassStatistics.empty(SLOTS, WIDTH)
    label = np.repeat(np.arange(KNOWN), 50)
    statistics.update_all(images(label), label)
    return statistics, images


def fresh(statistics):
    return CameraState.restored(None, statistics, [])


def test_a_lesson_of_known_classes_says_whether_they_moved(world):
    statistics, images = world
    label = np.repeat(np.arange(KNOWN), 3)
    assert lesson_through(fresh(statistics), statistics, images(label), label) is None
    assert lesson_through(fresh(statistics), statistics, images(label, 2.0), label) == MOVED


def test_new_classes_beside_known_ones_do_not_matter(world):
    statistics, images = world
    label = np.repeat([0, 1, 2, 7, 8], 4)
    assert lesson_through(fresh(statistics), statistics, images(label), label) is None
    assert lesson_through(fresh(statistics), statistics, images(label, 2.0), label) == MOVED


def test_new_classes_alone_are_unclear_where_they_are_far_off(world):
    statistics, images = world
    label = np.repeat([7, 8], 5)
    assert lesson_through(fresh(statistics), statistics, images(label), label) is None
    assert lesson_through(fresh(statistics), statistics, images(label, 6.0), label) == UNCLEAR


def test_one_known_class_alone_says_nothing(world):
    statistics, images = world
    label = np.zeros(5, int)
    assert lesson_through(fresh(statistics), statistics, images(label, 6.0), label) is None


def test_where_nothing_is_known_nothing_is_said():
    statistics = ClassStatistics.empty(3, 4)
    feature = np.random.default_rng(0).normal(size=(4, 4))
    assert lesson_through(fresh(statistics), statistics, feature, np.array([0, 0, 1, 1])) is None


def test_classes_of_this_camera_are_no_reference(world):
    statistics, images = world
    camera = CameraState(np.zeros(WIDTH), [0, 20, 40, 50, *np.zeros(6)])
    assert camera.share(statistics)[:5].tolist() == pytest.approx([0, 0.4, 0.8, 1, 0])
    assert camera.of_host(statistics).tolist() == [0, 1]
    label = np.repeat([2, 3], 5)
    assert lesson_through(camera, statistics, images(label, 2.0), label) is None  # only 0 and 1 could say it
    label = np.repeat([0, 1], 5)
    assert lesson_through(camera, statistics, images(label, 2.0), label) == MOVED


def test_images_are_counted_and_kept():
    statistics = ClassStatistics(np.ones((3, 2)), [4, 0, 2], np.eye(2))
    camera = CameraState.restored(None, statistics, [2])
    assert camera.images.tolist() == [0, 0, 2]
    camera.took(np.array([0, 0, 2]))
    again = CameraState.restored(camera.arrays(), statistics, [])
    assert again.images.tolist() == [2, 0, 3]
    assert again.share(statistics).tolist() == [0.5, 0, 1]  # never above one
    again.took(np.array([1]))
    assert camera.images[1] == 0


def test_classes_of_this_camera_are_left_closed_and_the_number_is_kept(world):
    statistics, _ = world
    camera = CameraState(np.zeros(WIDTH), np.zeros(SLOTS), 0.4)
    camera.took(np.repeat([0, 1], [50, 25]))
    np.testing.assert_allclose(camera.left_open(statistics)[:KNOWN], [0.0, 0.1, 0.4, 0.4])
    kept = CameraState.restored(camera.arrays(), statistics, [])
    np.testing.assert_allclose(kept.left_open(statistics), camera.left_open(statistics))
    old = {name: value for name, value in camera.arrays().items() if name != "apart"}  # of a state before it was there
    assert not CameraState.restored(old, statistics, []).left_open(statistics).any()


def test_how_novel_images_are_through_the_camera_is_kept(world):
    statistics, _ = world
    camera = CameraState(np.zeros(WIDTH), np.zeros(SLOTS), 0.0, [[3.0, 1.0], [2.0, 1.5]])
    assert CameraState.restored(camera.arrays(), statistics, []).novelty.tolist() == [[3.0, 1.0], [2.0, 1.5]]
    old = {name: value for name, value in camera.arrays().items() if name != "novelty"}
    assert CameraState.restored(old, statistics, []).novelty.tolist() == [[0.0, 0.0], [1.0, 1.0]]
