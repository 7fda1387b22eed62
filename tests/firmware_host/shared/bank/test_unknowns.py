"""Unknown images that are alike are put together, others are not, and what is remembered is bounded."""

import numpy as np
import pytest

from firmware_host.shared.bank import Mixture, empty_bank
from firmware_host.shared.bank.unknowns import GROUPS, OFFERED, Unknowns

D, KNOWN, NEW = 16, 30, 6


def drawn(rng, centres, label):
    return (centres[label] + rng.normal(size=(len(label), D)) * np.linspace(0.5, 2.0, D)).astype(np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture
def centres(rng):
    return rng.normal(size=(KNOWN + NEW, D)) * 2.0 * np.linspace(0.5, 2.0, D)


@pytest.fixture
def mixture(rng, centres):
    label = np.repeat(np.arange(KNOWN), 40)
    found = Mixture(empty_bank(KNOWN + NEW, KNOWN + NEW + 4, D, 4), np.zeros(D), np.ones(D), 0.0)
    found.learn_apart(np.zeros((len(label), KNOWN + NEW), np.float32), drawn(rng, centres, label), label, rng)
    return found


def test_each_class_that_is_not_known_becomes_one_group(rng, centres, mixture):
    unknowns, members = Unknowns(), {}
    for slot in rng.permutation(np.repeat(np.arange(KNOWN, KNOWN + NEW), 30)):
        group, alike = unknowns.see(mixture, drawn(rng, centres, np.array([slot]))[0])
        members.setdefault(group, []).append(slot)
        assert alike == len(members[group])
    offered = [found for found in members.values() if len(found) >= OFFERED]
    assert {max(found, key=found.count) for found in offered} == set(range(KNOWN, KNOWN + NEW))
    assert np.mean([found.count(max(found, key=found.count)) / len(found) for found in offered]) > 0.98
    assert sum(map(len, offered)) > 0.75 * 30 * NEW


def test_the_units_of_the_features_do_not_matter(rng, centres):
    """Alike is measured by the known classes' own covariance, not by a distance that fits one backbone."""
    label, stream = np.repeat(np.arange(KNOWN), 40), np.tile(np.arange(KNOWN, KNOWN + NEW), 5)
    feature, new, guess = (
        drawn(rng, centres, label),
        drawn(rng, centres, stream),
        np.zeros((40 * KNOWN, KNOWN), np.float32),
    )
    found = []
    for unit in (1.0, 1000.0):
        mixture = Mixture(empty_bank(KNOWN, KNOWN + 4, D, 4), np.zeros(D), np.full(D, unit), 0.0)
        mixture.learn_apart(guess, unit * feature, label, np.random.default_rng(0))
        unknowns = Unknowns()
        found.append([unknowns.see(mixture, unit * row) for row in new])
    assert found[0] == found[1]


def test_the_same_image_seen_again_is_seen_again(rng, centres, mixture):
    unknowns, image = Unknowns(), drawn(rng, centres, np.array([KNOWN]))[0]
    assert [unknowns.see(mixture, image) for _ in range(OFFERED)] == [(1, seen) for seen in range(1, OFFERED + 1)]


def test_the_least_recently_seen_group_gives_way(rng, mixture):
    """Images each alone in its corner: as many groups as there is room for, and one that is seen again stays."""
    unknowns, corners = Unknowns(), 20.0 * rng.normal(size=(3 * GROUPS, D)) * np.linspace(0.5, 2.0, D)
    for corner in corners[:GROUPS]:
        unknowns.see(mixture, corner)
    assert unknowns.see(mixture, corners[0]) == (1, 2)
    for place, corner in enumerate(corners[GROUPS:], GROUPS + 1):
        assert unknowns.see(mixture, corner) == (place, 1)
        assert unknowns.see(mixture, corners[0])[0] == 1
        assert len(unknowns._groups) == GROUPS
    assert unknowns.see(mixture, corners[1]) == (3 * GROUPS + 1, 1)


def test_a_group_goes_when_its_images_get_a_name(rng, centres, mixture):
    unknowns, (one, other) = Unknowns(), centres[KNOWN : KNOWN + 2]
    assert [unknowns.see(mixture, row) for row in (one, other, one, other)] == [(1, 1), (2, 1), (1, 2), (2, 2)]
    unknowns.forget(mixture, drawn(rng, centres, np.arange(KNOWN)))  # images of known classes are not theirs
    assert [unknowns.see(mixture, row) for row in (one, other)] == [(1, 3), (2, 3)]
    unknowns.forget(mixture, np.stack([one, one]))
    assert [unknowns.see(mixture, row) for row in (one, other)] == [(3, 1), (2, 4)]
    unknowns.clear()
    unknowns.forget(mixture, np.stack([one, one]))
    assert [unknowns.see(mixture, row) for row in (one, other)] == [(4, 1), (5, 1)]


@pytest.fixture
def seen(rng, centres, mixture):
    unknowns = Unknowns()
    for corner in 20.0 * rng.normal(size=(GROUPS + 5, D)) * np.linspace(0.5, 2.0, D):
        unknowns.see(mixture, corner)
    for row in drawn(rng, centres, np.tile([KNOWN, KNOWN + 1], 10)):
        unknowns.see(mixture, row)
    return unknowns


def test_what_was_kept_goes_on_as_if_nothing_had_happened(rng, centres, mixture, seen):
    arrays = seen.arrays()
    assert sum(value.nbytes for value in arrays.values()) <= GROUPS * (4 * D + 16) + 8
    kept = Unknowns.from_arrays(arrays, D)
    for row in drawn(rng, centres, np.tile(np.arange(KNOWN, KNOWN + NEW), 8)):
        assert kept.see(mixture, row) == seen.see(mixture, row)
    for name, value in seen.arrays().items():
        np.testing.assert_array_equal(kept.arrays()[name], value, err_msg=name)
    assert kept.records() == seen.records()
    assert len(arrays["number"]) == GROUPS


def test_numbers_go_on_and_what_is_empty_takes_no_room(mixture, centres, seen):
    assert Unknowns().arrays() == {}
    last = seen.last
    seen.clear()
    kept = Unknowns.from_arrays(seen.arrays(), D)
    assert (kept.last, kept.records()) == (last, [])
    assert kept.copy(last + 3).see(mixture, centres[KNOWN]) == (last + 4, 1)
    assert kept.see(mixture, centres[KNOWN]) == (last + 1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": np.zeros((GROUPS, D + 1))},
        {"mean": np.full((GROUPS, D), np.nan)},
        {"count": np.zeros(GROUPS, np.int64)},
        {"count": np.ones(3, np.int64)},
        {"number": np.ones(GROUPS, np.int64)},
        {"number": np.arange(GROUPS)},
        {"last": np.array(3)},
        {"last": np.array(np.iinfo(np.int64).max)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_arrays_that_cannot_be_are_refused(seen, change):
    with pytest.raises(ValueError, match="groups of unknown images"):
        Unknowns.from_arrays({**seen.arrays(), **change}, D)


def test_of_more_groups_than_are_kept_the_last_seen_stay(seen, monkeypatch):
    arrays = seen.arrays()
    monkeypatch.setattr("firmware_host.shared.bank.unknowns.GROUPS", 4)
    kept = Unknowns.from_arrays(arrays, D)
    np.testing.assert_array_equal(kept.arrays()["number"], arrays["number"][-4:])
