"""Offsets between cameras, on features made up of known parts: found as they are, and near zero where none is."""

import numpy as np
import pytest

from firmware_host.learning.calibration import (
    FALSE_ALARMS,
    LEFT_OPEN,
    OF_EACH,
    WORTH,
    Reference,
    left_open,
    offsets_of_others,
)

CLASSES, WIDTH, IMAGES = 6, 48, 100


class World:
    """Classes whose images scatter alike, and cameras that move all features."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.centre = 1.5 * self.rng.normal(size=(CLASSES, WIDTH))
        self.mixing = np.eye(WIDTH) + 0.1 * self.rng.normal(size=(WIDTH, WIDTH))  # of what scatters, into features
        label = np.repeat(np.arange(CLASSES), IMAGES)
        feature = self.images(label)
        mean = np.array([feature[label == c].mean(axis=0) for c in range(CLASSES)])
        away = feature - mean[label]
        self.reference = Reference(mean, away.T @ away / (len(label) - CLASSES))

    def images(self, label, offset=0.0, of_classes=0.0):
        """Return features of images through a camera; `of_classes` [CLASSES, d] is what it does to each class alone."""
        own = np.zeros((CLASSES, WIDTH)) + of_classes
        white = self.centre[label] + self.rng.normal(size=(len(label), WIDTH)) + offset + own[label]
        return white @ self.mixing.T

    def direction(self, size):
        """Return a random offset, of this root mean square over directions, in units of what scatters."""
        vector = self.rng.normal(size=WIDTH)
        return size * vector * np.sqrt(WIDTH) / np.linalg.norm(vector)


@pytest.fixture
def world():
    return World()


def far_from(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("labelled", [True, False])
def test_an_offset_of_all_classes_is_found(world, shots, labelled):
    offset = world.direction(2.0)
    label = np.repeat(np.arange(CLASSES), shots)
    found = world.reference.offset(world.images(label, offset), label if labelled else None)
    assert far_from(found.vector, world.mixing @ offset) < (0.3 if shots == 1 else 0.15)
    assert found.size == pytest.approx(2.0, rel=0.15)
    assert found.found


def test_more_images_leave_less_open(world):
    offset = world.direction(0.5)
    missed = []
    for shots in (1, 3, 10, 30):
        label = np.repeat(np.arange(CLASSES), shots)
        found = [world.reference.offset(world.images(label, offset), label).vector for _ in range(10)]
        missed.append(np.mean([far_from(vector, world.mixing @ offset) for vector in found]))
    assert missed == sorted(missed, reverse=True)
    assert missed[-1] < 0.3


def test_what_few_images_leave_open_is_drawn_to_zero(world):
    label = np.arange(CLASSES)
    sizes, plain = [], []
    for _ in range(50):
        feature = world.images(label)
        sizes.append(world.reference.offset(feature, label).size)
        white = np.linalg.solve(world.mixing, (feature - world.reference.mean).mean(axis=0))
        plain.append(np.sqrt(np.mean(white**2)))
    assert np.mean(plain) > 0.35  # what the mean alone would take for an offset
    assert np.mean(sizes) < 0.1


@pytest.mark.parametrize("shots", [1, 2, 5])
def test_false_alarms_are_no_more_than_stated(world, shots):
    label = np.repeat(np.arange(CLASSES), shots)
    alarms = [world.reference.offset(world.images(label), label).found for _ in range(200)]
    assert np.mean(alarms) <= FALSE_ALARMS


def test_an_offset_too_small_to_matter_is_not_reported(world):
    offset = world.direction(0.1)
    label = np.repeat(np.arange(CLASSES), 60)
    found = world.reference.offset(world.images(label, offset), label)
    assert 0.05 < found.size < WORTH
    assert not found.found


def test_what_a_camera_does_to_each_class_alone_is_counted_as_uncertain(world):
    label = np.repeat(np.arange(CLASSES), 5)
    of_classes = world.rng.normal(size=(CLASSES, WIDTH))
    alone = world.reference.offset(world.images(label, of_classes=of_classes), label)
    assert alone.size < 0.2  # the mean of these six is 0.4
    assert not alone.found


def test_moving_features_equals_moving_the_means(world):
    label = np.repeat(np.arange(CLASSES), 5)
    seen = world.images(label, world.direction(2.0))
    vector = world.reference.offset(seen, label).vector
    precision = np.linalg.inv(world.mixing @ world.mixing.T)

    def distances(feature, mean):
        away = feature[:, None] - mean
        return np.einsum("nkd,de,nke->nk", away, precision, away)

    moved = distances(seen - vector, world.reference.mean)
    np.testing.assert_allclose(moved, distances(seen, world.reference.mean + vector), rtol=1e-9)
    assert np.mean(moved.argmin(axis=1) == label) == 1.0


def test_some_classes_are_enough(world):
    offset = world.direction(2.0)
    for label in (np.array([0, 3]), np.array([4, 4, 4]), np.array([1, 1, 1, 1, 5])):
        found = world.reference.offset(world.images(label, offset), label)
        assert far_from(found.vector, world.mixing @ offset) < 0.8
        assert found.found


def test_unlabelled_images_of_two_classes_from_the_same_camera_show_no_offset(world):
    for pair in ((0, 1), (2, 5)):
        label = np.repeat(pair, 4)
        assert world.reference.offset(world.images(label)).size < 0.3


@pytest.mark.parametrize(
    ("feature", "label", "message"),
    [
        (np.zeros((1, WIDTH)), np.array([0]), "one image cannot tell"),
        (np.ones((4, WIDTH)), np.arange(4), "all images are alike"),
        (np.ones((4, WIDTH)), None, "all images are alike"),
    ],
)
def test_images_that_tell_nothing_are_refused(world, feature, label, message):
    with pytest.raises(ValueError, match=message):
        world.reference.offset(feature, label)


@pytest.mark.parametrize("shots", [1, 5])
def test_an_image_has_no_part_in_the_offset_that_it_gets(world, shots):
    label = np.repeat(np.arange(CLASSES), shots)
    feature = world.images(label, world.direction(1.0))
    found = world.reference.offset(feature, label)
    told = offsets_of_others(world.reference, feature, found)
    assert max(far_from(each, found.vector) for each in told) < 0.5
    feature[0] += 5.0
    again = offsets_of_others(world.reference, feature, world.reference.offset(feature, label))
    np.testing.assert_array_equal(again[0], told[0])
    assert far_from(again[1], told[1]) > 0.0


def test_of_two_images_each_gets_the_offset_of_both(world):
    label = np.array([0, 1])
    feature = world.images(label, 1.0)
    found = world.reference.offset(feature, label)
    np.testing.assert_array_equal(offsets_of_others(world.reference, feature, found), [found.vector] * 2)


def test_unlabelled_images_of_one_class_are_refused(world):
    with pytest.raises(ValueError, match="all images look like one class"):
        world.reference.offset(world.images(np.full(5, 2)))


def test_statistics_of_nothing_are_refused():
    for mean, covariance in ((np.zeros((0, 3)), np.eye(3)), (np.ones((2, 3)), np.zeros((3, 3)))):
        with pytest.raises(ValueError, match="nothing is known"):
            Reference(mean, covariance)


@pytest.mark.parametrize("shots", [1, 5, 40])
def test_new_classes_are_told_from_another_camera(world, shots):
    label = np.repeat([0, 1, 2], shots)
    centre = world.centre
    world.centre = 1.5 * world.rng.normal(size=(3, WIDTH))  # of classes that nobody knows
    assert not world.reference.unlike_any(world.images(label), label)
    assert world.reference.unlike_any(world.images(label, world.direction(6.0)), label)
    world.centre = centre


def test_one_known_class_cannot_say_how_far_classes_lie_apart(world):
    alone = Reference(world.reference.mean[:1], world.mixing @ world.mixing.T)
    assert not alone.unlike_any(world.images(np.array([3, 3]), world.direction(9.0)), np.array([0, 0]))


def open_in_means(world, label, offset=0.0, of_classes=0.0, unit=1.0):
    """`left_open` of images through a camera, in a space that is `unit` times too wide."""
    feature = world.images(label, offset, of_classes)
    away = unit * world.reference.white(feature - world.reference.mean[label])
    return left_open(away, label, np.full(CLASSES, IMAGES))


@pytest.mark.parametrize("unit", [1.0, 1.5])
def test_what_a_camera_does_to_classes_alone_is_told_from_chance(world, unit):
    """Half of its variance is to be left open; none where the camera moves all classes alike."""
    label, apart = np.repeat(np.arange(CLASSES), 5), 0.6 * world.rng.normal(size=(CLASSES, WIDTH))
    of_all = [open_in_means(world, label, 1.0, unit=unit) for _ in range(20)]
    of_each = [open_in_means(world, label, 1.0, apart, unit) for _ in range(20)]
    assert np.mean(of_all) < 0.02
    assert np.mean(of_each) == pytest.approx(unit**2 * LEFT_OPEN * 0.36, rel=0.3)


def test_of_one_image_a_class_it_is_taken_from_what_the_camera_does_to_all(world):
    """And is never more than the images are apart; images of the same camera leave nothing open."""
    label = np.arange(CLASSES)
    found = [np.mean([open_in_means(world, label, size) for _ in range(30)]) for size in (0.0, 0.5, 1.0, 9.0)]
    assert found[0] < 0.015
    assert found[1:3] == pytest.approx([LEFT_OPEN * OF_EACH * size**2 for size in (0.5, 1.0)], rel=0.15)
    assert found[3] == pytest.approx(LEFT_OPEN * (1.0 + 1.0 / IMAGES), rel=0.1)


def test_one_class_cannot_tell_what_is_of_a_class(world):
    assert open_in_means(world, np.zeros(5, int), 1.0) == 0.0
