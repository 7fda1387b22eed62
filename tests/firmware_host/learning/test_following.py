"""A camera's offset from predictions alone: taken where classes agree on it, never where something else moves them."""

import numpy as np
import pytest

from firmware_host.bundle import ClassStatistics
from firmware_host.learning.camera_state import CameraState
from firmware_host.learning.following import FIRST, LAST, Following

SLOTS, WIDTH, KNOWN = 12, 40, 6


@pytest.fixture
def world():
    """Statistics of six classes by 50 images each, the random numbers, and a function that makes images of twelve."""
    rng = np.random.default_rng(0)
    centre = 2.0 * rng.normal(size=(SLOTS, WIDTH))

    def images(label, offset=0.0):
        return centre[label] + rng.normal(size=(len(label), WIDTH)) + offset

    statistics = ClassStatistics.empty(SLOTS, WIDTH)
    label = np.repeat(np.arange(KNOWN), 50)
    statistics.update_all(images(label), label)
    return statistics, rng, images


def followed(statistics, features):
    """Return the offset in use after a stream of predictions, and how often it was changed."""
    camera, following, moves = CameraState.restored(None, statistics, []), Following(), 0
    for feature in features:
        offset = following.see(feature - camera.offset, camera, statistics)
        if offset is not None:
            camera.offset, moves = offset, moves + 1
    return camera.offset, moves


def test_an_offset_of_all_classes_is_found_little_by_little(world):
    statistics, rng, images = world
    offset = rng.normal(size=WIDTH)
    features = images(rng.integers(0, KNOWN, 6 * LAST), offset)
    assert followed(statistics, features[: FIRST - 1])[1] == 0
    first, moves = followed(statistics, features[:FIRST])
    assert moves == 1
    found, moves = followed(statistics, features)
    assert moves > 2
    away = [np.linalg.norm(each - offset) / np.linalg.norm(offset) for each in (first, found)]
    assert 0.3 < away[0] < 0.7
    assert away[1] < 0.2


def test_a_camera_that_changes_back_is_followed_back(world):
    statistics, rng, images = world
    offset = rng.normal(size=WIDTH)
    moved = images(rng.integers(0, KNOWN, 4 * LAST), offset)
    back = images(rng.integers(0, KNOWN, 8 * LAST))
    found, _ = followed(statistics, np.concatenate([moved, back]))
    assert np.linalg.norm(found) < 0.3 * np.linalg.norm(offset)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "classes", [range(KNOWN), [0], [0, 1], [KNOWN], range(KNOWN, SLOTS), range(SLOTS)], ids=lambda each: str(list(each))
)
def test_images_of_the_same_camera_move_nothing(world, classes, seed):
    """Known ones, of one class, of unknown ones alone, of both."""
    statistics, _, images = world
    features = images(np.random.default_rng(seed).choice(list(classes), 6 * LAST))
    assert followed(statistics, features)[1] == 0


def test_one_known_class_alone_moves_nothing_through_any_camera(world):
    """It may be another kind of that class."""
    statistics, _, images = world
    assert followed(statistics, images(np.zeros(6 * LAST, int), 2.0))[1] == 0


def test_equal_images_and_devices_that_know_nothing_move_nothing(world):
    statistics, _, images = world
    assert followed(statistics, np.repeat(images(np.zeros(1, int), 2.0), LAST, axis=0))[1] == 0
    assert followed(ClassStatistics.empty(3, WIDTH), images(np.arange(SLOTS).repeat(LAST // 4)))[1] == 0
