"""New classes that lie too far off: a part is taken for the camera's doing, no more than what they bear."""

import numpy as np
import pytest

from firmware_host.bundle import ClassStatistics
from firmware_host.learning import far_lesson
from firmware_host.learning.calibration import away
from firmware_host.learning.camera_state import ASSUMED, MOVED, UNCLEAR, CameraState
from firmware_host.learning.far_lesson import LOOKS, LOST, look_at, look_back
from firmware_host.shared.bank import Mixture, empty_bank

SLOTS, WIDTH, KNOWN = 12, 40, 6


class World:
    """A device of six classes by 50 images each; as much of it as a lesson is looked at with."""

    def __init__(self, seed, bank=True):
        self.rng = np.random.default_rng(seed)
        self.centre = 1.2 * self.rng.normal(size=(SLOTS, WIDTH))
        # What a camera does: the same to all classes, and a little to each by itself.
        self.shift = 6.0 * self.rng.normal(size=WIDTH) + 0.4 * self.rng.normal(size=(SLOTS, WIDTH))
        self.statistics = ClassStatistics.empty(SLOTS, WIDTH)
        label = np.repeat(np.arange(KNOWN), 50)
        feature = self.images(label)
        self.statistics.update_all(feature, label)
        self.camera = CameraState.restored(None, self.statistics, [])
        self.mixture, self.follows, self.pending, self.said = None, True, None, None
        if bank:
            self.mixture = Mixture(empty_bank(SLOTS, SLOTS + 3, WIDTH, 4), np.zeros(WIDTH), np.ones(WIDTH))
            self.mixture.bank.learn_classes(feature, label)

    def images(self, label, camera=False):
        noise = self.rng.normal(size=(len(label), WIDTH))
        return (self.centre[label] + noise + camera * self.shift[label]).astype(np.float32)

    def plain(self, raw):
        return raw

    def move_camera(self, offset, apart):
        self.camera.offset, self.camera.apart = np.array(offset, np.float32), apart
        self.mixture.bank.leave_open(self.camera.left_open(self.statistics))

    def learn(self, feature, label):
        self.mixture.bank.learn(feature - self.camera.offset, label)
        self.statistics.update_all(feature - self.camera.offset, label)
        self.camera.took(label)
        self.mixture.bank.leave_open(self.camera.left_open(self.statistics))

    def right(self, classes):
        label = np.repeat(classes, 20)
        logits = self.mixture.bank.logits(self.images(label, camera=True) - self.camera.offset)
        return float(np.mean(logits.argmax(axis=1) == label))


def lesson(world, classes, each, camera=True):
    label = np.repeat(np.arange(KNOWN, KNOWN + classes), each)
    return world.images(label, camera), label


def untouched(world):
    return not world.camera.offset.any() and not world.camera.apart


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_old_classes_are_kept_through_a_camera_that_only_new_ones_were_seen_by(classes, seed):
    world, without = World(seed), World(seed)
    feature, label = lesson(world, classes, 12)
    without.learn(feature, label)
    assert without.right(range(KNOWN)) < 0.2  # the fault that this is for
    assert look_at(world, feature, label) == ASSUMED
    world.learn(feature, label)
    assert world.right(range(KNOWN)) > 0.8
    assert world.right(range(KNOWN, KNOWN + classes)) > 0.8


@pytest.mark.parametrize("each", [1, 3, 30])
@pytest.mark.parametrize("classes", [1, 2, 6])
@pytest.mark.parametrize("seed", range(3))
def test_new_classes_of_the_same_camera_move_nothing(classes, each, seed):
    world = World(seed)
    assert look_at(world, *lesson(world, classes, each, camera=False)) is None
    assert untouched(world)


def test_new_classes_of_one_kind_are_no_camera():
    """They lie off together, as a single class would."""
    world = World(0)
    kind = 1.2 * world.rng.normal(size=WIDTH)
    world.centre[KNOWN:] = kind + 0.3 * world.rng.normal(size=(SLOTS - KNOWN, WIDTH))
    known, new, count = world.centre[:KNOWN], world.centre[KNOWN:], np.full(SLOTS - KNOWN, 20)
    assert away(known, new, count) < 1.5
    assert away(known, known + 2.0, count) > 3.0
    assert look_at(world, *lesson(world, 6, 20, camera=False)) is None
    assert untouched(world)


def test_a_lesson_of_known_classes_is_for_calibration():
    world = World(0)
    label = np.repeat(np.arange(KNOWN), 4)
    assert look_at(world, world.images(label, camera=True), label) == MOVED
    assert untouched(world)


@pytest.mark.parametrize("why", ["no bank", "does not follow", "one image a class"])
def test_where_nothing_may_be_taken_it_is_said_all_the_same(why):
    world = World(0, bank=why != "no bank")
    world.follows = why != "does not follow"
    assert look_at(world, *lesson(world, 3, 1 if why == "one image a class" else 9)) == UNCLEAR
    assert untouched(world)


@pytest.mark.parametrize("far", [False, True])
def test_a_calibrated_camera_is_believed_and_what_it_leaves_open_is_weighed(far):
    """The offset stays; how much old classes are widened, the new ones say better than the few images before."""
    world = World(0)
    calibrated = world.shift[:KNOWN].mean(axis=0) * (not far)
    for apart in (0.0001, 30.0):
        world.move_camera(calibrated, apart)
        feature, label = lesson(world, 3, 9)
        assert look_at(world, feature, label) == (UNCLEAR if far else None)
        assert 0 < world.camera.apart != apart
        np.testing.assert_array_equal(world.camera.offset, calibrated.astype(np.float32))


def test_a_camera_that_is_not_followed_stays_as_it_was_calibrated():
    world = World(0)
    world.follows = False
    world.move_camera(world.shift[:KNOWN].mean(axis=0), 30.0)
    assert look_at(world, *lesson(world, 3, 9)) is None
    assert world.camera.apart == 30.0


def test_a_second_lesson_leaves_the_offset_that_the_first_was_taken_for():
    world = World(0)
    feature, label = lesson(world, 2, 9)
    assert look_at(world, feature, label) == ASSUMED
    world.learn(feature, label)
    before = world.camera.offset.copy()
    label = np.repeat([KNOWN + 2, KNOWN + 3], 9)
    look_at(world, world.images(label, camera=True), label)
    np.testing.assert_array_equal(world.camera.offset, before)


def test_no_more_is_taken_than_new_classes_bear():
    """Classes that lie far off by themselves, side by side: their own images would go to the old ones."""
    world = World(0)
    feature, label = lesson(world, 2, 16)
    assert look_at(world, feature, label) == ASSUMED
    world.learn(feature, label)
    assert world.right([KNOWN, KNOWN + 1]) >= 1.0 - 2.0 * LOST


@pytest.mark.parametrize("order", ["mixed", "class by class"])
def test_images_that_come_one_at_a_time_are_looked_back_at(order):
    world = World(1)
    feature, label = lesson(world, 2, 8)
    rows = np.arange(16).reshape(2, 8).T.ravel() if order == "mixed" else np.arange(16)
    for row in rows:
        one = feature[row][None], label[row][None]
        world.learn(*one)
        last = one if world.pending is None else [np.concatenate(pair) for pair in zip(world.pending, one)]
        world.pending = tuple(last)
        look_back(world)
        assert world.said in (None, ASSUMED)
        assert (world.said is None) == untouched(world)
        assert world.said is None or len(world.pending[1]) >= LOOKS[0]
    assert world.said == ASSUMED


def test_an_offset_that_predictions_found_is_counted_when_looking_back(monkeypatch):
    monkeypatch.setattr(far_lesson, "take_for_camera", lambda *lesson: pytest.fail("these classes do not lie far off"))
    world = World(1)
    world.move_camera(world.shift.mean(axis=0), 0.0)
    world.pending = lesson(world, 2, 8)
    world.learn(*world.pending)
    look_back(world)
    assert world.said is None


def test_nothing_is_looked_back_at_where_images_are_missing():
    world = World(1)
    feature, label = lesson(world, 2, 8)
    world.learn(feature, label)
    world.pending = feature[::2], label[::2]
    look_back(world)
    assert untouched(world)
