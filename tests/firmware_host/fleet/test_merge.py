"""Merging is exact, and a function of the set of deltas alone."""

import itertools

import numpy as np
import pytest

from firmware_host.fleet.delta import Delta
from firmware_host.fleet.merge import fingerprint, merged, newest
from firmware_host.shared.bank import Bank
from firmware_host.shared.statistics import ClassStatistics

from .conftest import HOST, MEAN, SCALE, C, Seen, features, known, make_base


def one_device(base, images, classes):
    """What a device knows that saw every image, one at a time."""
    statistics = base.statistics.copy()
    arrays = {name: value.copy() for name, value in base.bank.items()}
    bank = Bank(arrays, MEAN, SCALE, False)
    for name in sorted(images):
        for row in images[name]:
            statistics.update(row, classes.index(name))
            bank.learn(row[None], np.array([classes.index(name)]))
    return statistics, arrays


def test_eight_devices_know_what_one_that_saw_everything_knows(base, eight):
    deltas, images = eight
    found = merged(base, deltas, C)
    assert found.classes == ("mug", "spoon", "fork", "glass", "plate")
    statistics, bank = one_device(base, images, found.classes)
    for name, value in found.statistics.arrays().items():
        wanted = statistics.arrays()[name]
        np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    assert found.statistics.count[:5].tolist() == [116, 116, 96, 96, 96]
    # The bank is kept in float32.
    for label in range(5):
        mine, its = int(found.bank["binding"][label]) - 1, int(bank["binding"][label]) - 1
        assert found.bank["count"][mine] == bank["count"][its]
        np.testing.assert_allclose(found.bank["mean"][mine], bank["mean"][its], atol=2e-5)
    np.testing.assert_allclose(found.bank["scatter"], bank["scatter"], rtol=1e-4, atol=1e-2)
    assert found.bank["total"] == bank["total"]


def test_the_bank_predicts_as_that_of_one_device(base, eight):
    deltas, images = eight
    found = merged(base, deltas, C)
    arrays = one_device(base, images, found.classes)[1]
    rows = np.concatenate([features(name, 40, 2) for name in found.classes])
    label = np.repeat(np.arange(5), 40)
    ours, its = (Bank(a, MEAN, SCALE, False).logits(rows).argmax(axis=1) for a in (found.bank, arrays))
    assert np.mean(its == label) > 0.85
    assert np.mean(ours == its) > 0.97


def test_neither_order_nor_repetition_changes_a_byte(base, eight):
    deltas = eight[0][:5]
    wanted = known(merged(base, deltas, C))
    rng = np.random.default_rng(0)
    for order in itertools.islice(itertools.permutations(deltas), 0, 120, 7):
        twice = [*order, *rng.permutation(np.array(order, object))]
        assert known(merged(base, [Delta.from_bytes(delta.to_bytes()) for delta in twice], C)) == wanted
    assert fingerprint(deltas) == fingerprint(deltas[::-1]) == merged(base, deltas * 2, C).fingerprint


def test_the_newest_version_of_a_device_counts(base):
    device = Seen("one").learn("fork", features("fork", 10))
    first = device.tell()
    assert device.tell().version == 1  # nothing new
    second = device.learn("fork", features("fork", 10, 5)).tell()
    assert (first.version, second.version) == (1, 2)
    for deltas in ([first, second], [second, first], [second]):
        assert merged(base, deltas, C).statistics.count[2] == 20


def test_two_devices_with_one_number_count_as_one_everywhere(base):
    one, other = (Seen("same").learn("fork", features("fork", 9, seed)).tell() for seed in (1, 2))
    assert newest([one, other]) == newest([other, one])


def test_a_forgotten_class_is_forgotten_by_all_and_can_be_taught_again(base):
    one, other = Seen("one"), Seen("other")
    one.learn("fork", features("fork", 10)).learn("mug", features("mug", 10))
    other.learn("fork", features("fork", 10, 3))
    other.own.forget("fork")
    deltas = [one.tell(), other.tell()]
    assert merged(base, deltas, C).classes == HOST
    one.own.bury({"fork": 1})  # it hears of it
    one.learn("fork", features("fork", 7, 4))
    later = merged(base, [*deltas, one.tell()], C)
    assert later.classes == (*HOST, "fork")
    assert later.statistics.count[2] == 7
    late = merged(base, [one.tell(), deltas[0], deltas[1]], C)  # the old ones come late
    assert known(late) == known(later)


@pytest.mark.parametrize("name", HOST)
def test_a_class_of_the_bundle_is_forgotten_too(base, name):
    device = Seen("one").learn("fork", features("fork", 10))
    device.own.forget(name)
    found = merged(base, [device.tell()], C)
    kept = next(other for other in HOST if other != name)
    assert found.classes == (kept, "fork")
    assert found.statistics.count[:3].tolist() == [20, 10, 0]
    np.testing.assert_array_equal(found.statistics.mean[0], base.statistics.mean[HOST.index(kept)])
    bank = Bank(found.bank, MEAN, SCALE, False)
    assert bank.labels.tolist() == [0, 1]
    assert bank.logits(features(kept, 30, 9)).argmax(axis=1).mean() < 0.3


def test_names_that_look_alike_are_one_class_and_slots_do_not_depend_on_order(base):
    one = Seen("one").learn("fork", features("fork", 6)).learn("Mug", features("mug", 6))
    other = Seen("other").learn("Fork", features("fork", 8)).learn("apple", features("apple", 6))
    for deltas in ([one.tell(), other.tell()], [other.tell(), one.tell()]):
        found = merged(base, deltas, C)
        assert found.classes == (*HOST, "Fork", "apple")
        assert found.statistics.count[:4].tolist() == [26, 20, 14, 6]


def test_classes_for_which_there_is_no_slot_are_told(base):
    device, other = Seen("one").learn("rare", features("rare", 5)), Seen("other")
    for index in range(C):
        other.learn(f"class {index:02}", features(f"class {index:02}", 6 + index))
    found = merged(base, [device.tell(), other.tell()], C)
    assert len(found.classes) == C
    assert found.left_out == ("class 00", "class 01", "rare")
    own = merged(base, [device.tell(), other.tell()], C, ["rare"])
    assert "rare" in own.classes
    assert own.left_out == ("class 00", "class 01", "class 02")


def test_a_bundle_without_a_bank(eight):
    found = merged(make_base(False), eight[0], C)
    assert found.bank is None
    assert found.statistics.count.sum() == 96 * 5 + 40


def test_no_delta_is_the_bundle(base):
    found = merged(base, [], C)
    assert found.classes == HOST
    for name, value in base.bank.items():
        np.testing.assert_array_equal(found.bank[name], value)
    np.testing.assert_array_equal(found.statistics.scatter, base.statistics.scatter)
    assert isinstance(found.statistics, ClassStatistics)
