"""The replay buffer: what is kept, which class gives way, what is drawn."""

import numpy as np
import pytest

from firmware_host import DeviceError
from firmware_host.state.buffer import ReplayBuffer


def numbered(capacity, slots, per_slot, rng):
    """A buffer that was offered `per_slot[c]` images of each class c in turn; image k of class c is [10 c + k]."""
    buffer = ReplayBuffer.empty(capacity, slots, 1, np.dtype(np.int8))
    for slot, images in enumerate(per_slot):
        for k in range(images):
            buffer.add(np.array([10 * slot + k], np.int8), slot, rng)
    return buffer


def kept(buffer):
    """{slot: images} of what is in a buffer, and that every image is of the slot it is kept for."""
    np.testing.assert_array_equal(buffer.feature[:, 0] // 10, buffer.label)
    return {int(slot): sorted(buffer.feature[buffer.label == slot, 0].tolist()) for slot in np.unique(buffer.label)}


def test_all_is_kept_until_it_is_full():
    buffer = numbered(5, 3, [2, 3], np.random.default_rng(0))
    assert kept(buffer) == {0: [0, 1], 1: [10, 11, 12]}
    np.testing.assert_array_equal(buffer.seen, [2, 3, 0])
    assert (buffer.feature.dtype, buffer.label.dtype, buffer.seen.dtype) == (np.int8, np.int32, np.int64)


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_fewer_images_always_gets_in_at_the_cost_of_the_fullest(seed):
    rng = np.random.default_rng(seed)
    buffer = numbered(6, 3, [4, 2], rng)
    buffer.add(np.array([20], np.int8), 2, rng)
    found = kept(buffer)
    assert ({slot: len(images) for slot, images in found.items()}, found[2]) == ({0: 3, 1: 2, 2: 1}, [20])
    buffer.add(np.array([21], np.int8), 2, rng)
    assert {slot: len(images) for slot, images in kept(buffer).items()} == {0: 2, 1: 2, 2: 2}
    buffer.add(np.array([12], np.int8), 1, rng)  # as full as the fullest: only its own class gives way
    assert {slot: len(images) for slot, images in kept(buffer).items()} == {0: 2, 1: 2, 2: 2}


def test_an_image_of_a_full_class_gets_in_as_often_as_it_must():
    """Of n images offered each is kept with probability kept / n: a reservoir."""
    inside = 0
    for seed in range(600):
        rng = np.random.default_rng(seed)
        buffer = numbered(4, 2, [2, 8], rng)
        buffer.add(np.array([19], np.int8), 1, rng)
        inside += 19 in buffer.feature
        np.testing.assert_array_equal(buffer.seen, [2, 9])
    assert inside / 600 == pytest.approx(2 / 9, abs=0.05)


def test_drawing_takes_every_image_of_the_class_and_none_of_another():
    rng = np.random.default_rng(0)
    buffer = numbered(9, 4, [3, 2, 4], rng)
    drawn = [int(buffer.draw(1, rng)[0]) for _ in range(60)]
    assert set(drawn) == {10, 11}
    assert 15 < drawn.count(10) < 45
    assert buffer.draw(3, rng) is None


def test_a_smaller_buffer_keeps_the_classes_balanced_and_a_larger_one_keeps_all():
    rng = np.random.default_rng(0)
    buffer = numbered(9, 3, [6, 1, 2], rng)
    smaller = buffer.resized(4, rng)
    assert {slot: len(images) for slot, images in kept(smaller).items()} in ({0: 2, 1: 1, 2: 1}, {0: 1, 1: 1, 2: 2})
    assert smaller.capacity == 4
    np.testing.assert_array_equal(smaller.seen, [6, 1, 2])
    assert len(buffer.label) == 9  # it is a copy
    assert kept(buffer.resized(9, rng)) == kept(buffer)
    larger = buffer.resized(10, rng)
    larger.add(np.array([22], np.int8), 2, rng)
    assert (len(larger.label), larger.capacity) == (10, 10)
    assert len(buffer.resized(1, rng).label) == 1
    with pytest.raises(DeviceError, match="replay buffer of 0 images: use 1 or more"):
        buffer.resized(0, rng)
    with pytest.raises(DeviceError, match="replay buffer of -1 images"):
        ReplayBuffer.empty(-1, 1, 1, np.dtype(np.int8))


def test_which_images_of_the_fullest_class_give_way_is_drawn_at_random():
    left = np.zeros(6)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        for image in kept(numbered(6, 2, [6], rng).resized(3, rng))[0]:
            left[image] += 1
    assert np.abs(left / 300 - 0.5).max() < 0.12


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_a_class_is_forgotten_and_those_above_it_move_down(slot):
    rng = np.random.default_rng(0)
    buffer = numbered(6, 4, [2, 1, 3], rng)
    buffer = buffer.in_order({old: new for new, old in enumerate(c for c in range(4) if c != slot)})
    left = [c for c in range(3) if c != slot]
    for new, old in enumerate(left):
        np.testing.assert_array_equal(buffer.feature[buffer.label == new, 0] // 10, old)
        assert np.count_nonzero(buffer.label == new) == [2, 1, 3][old]
    assert len(buffer.label) == sum([2, 1, 3][old] for old in left)
    np.testing.assert_array_equal(buffer.seen, [*([2, 1, 3][old] for old in left), 0, 0])


def test_copies_are_independent_and_arrays_come_back():
    rng = np.random.default_rng(0)
    buffer = numbered(4, 3, [2, 2], rng)
    copy, arrays = buffer.copy(), buffer.arrays()
    copy.add(np.array([20], np.int8), 2, rng)
    for array in arrays.values():
        array += 1
    np.testing.assert_array_equal(buffer.seen, [2, 2, 0])
    assert kept(buffer) == {0: [0, 1], 1: [10, 11]}
    again = ReplayBuffer.from_arrays(buffer.arrays())
    assert (again.capacity, kept(again)) == (4, kept(buffer))


@pytest.mark.parametrize(
    ("feature", "label", "seen"),
    [
        (np.zeros(3), [0], [1]),
        (np.zeros((2, 3)), [0], [1]),
        (np.zeros((1, 3)), [[0]], [1]),
        (np.zeros((1, 3)), [0], [[1]]),
    ],
)
def test_what_does_not_fit_is_refused(feature, label, seen):
    with pytest.raises(DeviceError, match=r"replay buffer: feature .* do not fit: give \[n, d\] and \[n\]"):
        ReplayBuffer(2, feature, label, seen)
