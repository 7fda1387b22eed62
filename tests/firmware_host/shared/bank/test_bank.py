"""The bank: what it computes, what it remembers, and how labels find their slots."""

import numpy as np
import pytest
from helpers.banks import C, D, K, R, bank_of, gaussians, right, taught

from firmware_host.shared.bank import BANK, Bank, Mixture, bank_axes, bank_shapes, empty_bank, sums


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_sums_are_means_counts_and_scatter_of_the_images(rng):
    feature, label, _ = gaussians(rng, 4, 20)
    bank = taught(bank_of(), feature, label, batch=3, rng=rng)
    expected = sum(
        (rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0)) for rows in (feature[label == c] for c in range(4))
    )
    np.testing.assert_allclose(bank.sums.scatter, expected, rtol=1e-3, atol=1e-3)
    assert bank.sums.total == len(label) - 4  # the first image of a class tells nothing of its spread
    for c in range(4):
        slot = bank.binding[c] - 1
        assert bank.sums.count[slot] == 20
        np.testing.assert_allclose(bank.sums.mean[slot], feature[label == c].mean(axis=0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_directions_are_the_leading_ones_of_a_class(rng, unit):
    """Whatever the unit of another feature: each counts in units of its deviation within the classes."""
    feature = rng.normal(size=(4000, D)).astype(np.float32) * 0.1
    label = np.arange(4000) % 20
    feature[label == 0, 5] *= 60  # nearly all the spread of this class
    feature[:, 3] *= unit
    bank = taught(bank_of(20, 20), feature, label, batch=7)
    rows = bank.sums.leading(bank.binding[0] - 1)
    leading = rows[np.argmax(np.abs(rows[:, 5]))]
    others = np.arange(D) != 3
    assert abs(leading[5]) > 0.99 * np.linalg.norm(leading[others])
    assert np.sum(rows[:, 5] ** 2) == pytest.approx(np.sum(feature[label == 0, 5] ** 2), rel=0.05)


def test_many_images_at_once_count_as_one_at_a_time(rng):
    feature, label, _ = gaussians(rng, 3, 30)
    one = taught(bank_of(rebinds=False), feature, label, batch=1)
    all_ = taught(bank_of(rebinds=False), feature, label, batch=len(label))
    np.testing.assert_allclose(one.sums.scatter, all_.sums.scatter, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(one.sums.mean, all_.sums.mean, atol=1e-4)


@pytest.mark.slow
def test_classes_that_differ_in_spread_alone_are_told_apart(rng):
    """A shared covariance cannot; the directions of each class can."""
    tall, wide = np.ones(D), np.ones(D)
    tall[0], wide[1] = 6.0, 6.0
    feature = np.concatenate([rng.normal(size=(4000, D)) * tall, rng.normal(size=(4000, D)) * wide]).astype(np.float32)
    label = np.repeat([0, 1], 4000)
    bank = taught(bank_of(rebinds=False), feature, label, batch=50)
    told = right(bank, feature, label)
    flat = taught(bank_of(r=0, rebinds=False), feature, label, batch=50)
    assert told > right(flat, feature, label) + 0.15


def test_order_does_not_matter(rng):
    feature, label, _ = gaussians(rng, 5, 30, spread=1.0)
    first = taught(bank_of(rebinds=False), feature, label, batch=1)
    second = taught(bank_of(rebinds=False), feature, label, batch=1, rng=rng)
    same = first.logits(feature).argmax(axis=1) == second.logits(feature).argmax(axis=1)
    assert np.mean(same) > 0.97


def test_a_prediction_of_an_image_does_not_depend_on_the_others(rng):
    feature, label, _ = gaussians(rng, 5, 30, spread=1.0)
    bank = taught(bank_of(), feature, label)
    together = bank.logits(feature[:9])
    np.testing.assert_allclose(np.concatenate([bank.logits(row[None]) for row in feature[:9]]), together, atol=1e-3)


def test_unknown_labels_have_no_probability_and_nothing_known_gives_none(rng):
    bank = bank_of()
    assert (bank.logits(rng.normal(size=(2, D)).astype(np.float32)) < -1e8).all()
    bank.learn(np.ones((1, D), np.float32), np.array([3]))
    logits = bank.logits(np.ones((1, D), np.float32))[0]
    assert np.flatnonzero(logits > -1e8).tolist() == [3]


def test_renewing_in_pieces_gives_what_renewing_at_once_gives(rng):
    feature, label, _ = gaussians(rng, C, 40, spread=1.0)
    bank = taught(bank_of(), feature, label, batch=1)
    before = bank.logits(feature[:20]).argmax(axis=1)
    bank.renew()
    assert np.mean(before == bank.logits(feature[:20]).argmax(axis=1)) >= 0.95
    again = Bank({name: value.copy() for name, value in bank_arrays(bank).items()}, np.zeros(D), np.ones(D))
    np.testing.assert_allclose(again.logits(feature[:20]), bank.logits(feature[:20]), atol=1e-4)


def bank_arrays(bank):
    sums = bank.sums
    held = {**vars(sums), **{name: getattr(bank, name) for name in BANK if hasattr(bank, name)}}
    return {**empty_bank(C, K, D, R), **held}


def test_a_label_that_means_something_else_gets_another_slot(rng):
    feature, label, centres = gaussians(rng, 6, 40)
    bank = taught(bank_of(labels=6, slots=16), feature, label, rng=rng)
    old = bank.binding.copy()
    swapped, new_label, _ = gaussians(rng, 6, 40, centres=rng.normal(size=centres.shape) * 3.0)
    taught(bank, swapped, new_label, rng=rng)
    assert right(bank, swapped, new_label) > 0.9
    assert (bank.binding != old).any()
    assert len(np.unique(bank.binding)) == 6


def test_images_like_nothing_known_cast_doubt_on_labels_whatever_they_are_nearest_to(rng):
    """All move together to where nothing was: each stays nearest to the mean of its label."""
    feature, label, _ = gaussians(rng, 6, 60)
    mixture, guess = Mixture(empty_bank(6, 16, D, R), np.zeros(D), np.ones(D)), np.full((4, 6), 1 / 6, np.float32)
    doubts, order = {0.0: 0, 8.0: 0}, rng.permutation(len(label)).reshape(-1, 4)
    for away in doubts:
        for rows in order:
            mixture.learn(guess, feature[rows] + np.float32(away), label[rows])
            doubts[away] += (mixture.bank.doubted | mixture.bank.trial).any()
    assert doubts[0.0] == 0 < doubts[8.0]


def test_what_returns_is_recognised():
    """In every stream in which both changes were noticed; of twelve features chance parts one mean in six."""
    found = []
    for seed in (0, 6, 11, 12):
        rng = np.random.default_rng(seed)
        feature, label, centres = gaussians(rng, 6, 60)
        bank = taught(bank_of(labels=6, slots=16), feature, label, rng=rng)
        old = bank.binding.copy()
        other, other_label, _ = gaussians(rng, 6, 60, centres=rng.normal(size=centres.shape) * 3.0)
        taught(bank, other, other_label, rng=rng)
        assert (bank.binding != old).all()
        back, back_label, _ = gaussians(rng, 6, 60, centres=centres)
        taught(bank, back, back_label, rng=rng)
        assert right(bank, back, back_label) > 0.95
        found.append(np.mean((bank.binding == old) & (bank.sums.count[bank.binding - 1] > 100)))  # with what they knew
    assert np.mean(found) >= 0.6


def beside(apart, known, images, second):
    """Return a bank whose slot 0 has `images`, as far from slot 1 as chance and `apart` variances; slot 2 further."""
    width = 192
    bank = Bank(empty_bank(1, 4, width, R), np.zeros(width), np.ones(width))
    bank.sums.scatter[:], bank.sums.total[()] = 1e4 * np.eye(width), 1e4
    bank.sums.count[:3] = images, known, known
    chance = width * (1.0 / images + 1.0 / known)
    bank.sums.mean[0, 2:] = np.sqrt(chance / (width - 2))
    bank.sums.mean[1, 0], bank.sums.mean[2, 1] = np.sqrt(apart), np.sqrt(second)
    return bank


@pytest.mark.parametrize(
    ("apart", "known", "second", "same"),
    [
        (0.0, 50, 4.0, True),
        (2.5, 50, 4.0, False),
        (1.2, 400, 4.0, True),
        (2.5, 50, 50.0, True),  # nothing else is near
        (3.5, 50, 50.0, False),  # nothing else was seen yet that is nearer
        (2.5, 50, 8.0, False),
    ],
)
def test_a_class_like_a_known_one_is_not_taken_for_it(apart, known, second, same):
    """Of many features, means of 48 and 50 images are so far apart by chance that a class beside hardly adds to it."""
    bank = beside(apart, known, 48, second)
    bank.binding[0] = 1
    bank._recognise(0)
    assert (bank.binding[0] == 2) == same


@pytest.mark.parametrize(("apart", "same"), [(0.0, True), (20.0, False)])
def test_a_doubted_label_keeps_its_slot_only_where_its_images_are_as_near_as_they_would_be(apart, same):
    """Beside few other labels all images of another class may be nearest to the old slot: right by their losses."""
    bank = beside(apart, 200, 6, 4.0)
    bank.binding[0], bank.trial[0], bank.tried[0] = 2, 1, (-4.0, 4.0)
    bank._settle(0, np.full(2, -1.0))
    assert (bank.binding[0], bank.trial[0]) == (2 if same else 1, 0)


@pytest.mark.parametrize("same", [True, False])
def test_a_label_that_was_doubted_while_it_was_young_is_settled_too(rng, same):
    """Its old slot has too few images to tell any loss; the label must not stay on trial for ever."""
    feature, label, centres = gaussians(rng, 6, 60)
    young = label < 5
    bank = taught(bank_of(labels=6, slots=16), feature[young], label[young], rng=rng)
    centre = centres[5] if same else -centres[5]
    taught(bank, feature[~young][:8], label[~young][:8])
    bank.doubted[5], old = 1, bank.binding[5]
    more = (centre + rng.normal(size=(40, D))).astype(np.float32)
    taught(bank, more, np.full(40, 5))
    assert bank.trial[5] == 0
    assert (bank.binding[5] == old) == same
    assert bank.sums.count[bank.binding[5] - 1] == (48 if same else 40)
    assert right(bank, more, np.full(40, 5)) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_wrong_labels_without_a_change_rebind_nothing(rng, wrong):
    feature, label, _ = gaussians(rng, 6, 200)
    given = np.where(rng.random(len(label)) < wrong, rng.integers(0, 6, len(label)), label)
    bank = bank_of(labels=6, slots=16)
    taught(bank, feature[::4], label[::4], rng=rng)
    old = bank.binding.copy()
    taught(bank, feature, given, batch=1, rng=rng)
    assert (bank.binding == old).all()
    assert right(bank, feature, label) > 0.95


def test_forgetting_leaves_nothing_of_a_class(rng):
    feature, label, _ = gaussians(rng, 3, 20)
    bank = taught(bank_of(), feature, label)
    slot = bank.binding[1] - 1
    bank.forget(1)
    assert (bank.binding[1], bank.sums.count[slot]) == (0, 0)
    assert not bank.sums.mean[slot].any()
    assert not bank.sums.factor[slot].any()
    assert (bank.logits(feature)[:, 1] < -1e8).all()
    assert right(bank, feature[label != 1], label[label != 1]) == 1.0


def test_a_class_of_which_only_the_mean_is_known_is_adopted(rng):
    feature, label, centres = gaussians(rng, 3, 20)
    bank = taught(bank_of(), feature[label < 2], label[label < 2])
    bank.adopt(2, centres[2], 20.0)
    assert right(bank, feature, label) > 0.95


def test_slots_that_ran_out_are_taken_from_the_least_recently_used(rng):
    bank = bank_of(labels=2, slots=3)
    arrays = bank.sums
    feature, label, _ = gaussians(rng, 2, 30)
    taught(bank, feature, label)
    for _ in range(4):
        other, other_label, _ = gaussians(rng, 2, 30, centres=rng.normal(size=(2, D)) * 5)
        taught(bank, other, other_label)
        assert len(set(bank.binding) - {0}) == 2
        assert right(bank, other, other_label) > 0.8
    assert (arrays.count >= 0).all()


@pytest.mark.slow
def test_a_long_life_keeps_learning(rng, monkeypatch):
    """Sums are bounded, so that float32 always takes one more image; what is old counts less, nothing jumps."""
    monkeypatch.setattr(sums, "MOST", 200.0)
    monkeypatch.setattr(sums, "MOST_TOGETHER", 500.0)
    feature, label, centres = gaussians(rng, 3, 1000)
    bank = taught(bank_of(), feature, label, rng=rng)
    assert bank.sums.count.max() <= 200
    assert bank.sums.total <= 500
    covariance = bank.sums.scatter / bank.sums.total
    np.testing.assert_allclose(np.diag(covariance), 1.0, atol=0.25)
    for c in range(3):
        slot = bank.binding[c] - 1
        np.testing.assert_allclose(bank.sums.mean[slot], centres[c], atol=0.4)
        rows = bank.sums.leading(slot)
        assert np.sum(rows**2) < 1.5 * D * bank.sums.count[slot]  # as many images as the count says
    moved, moved_label, _ = gaussians(rng, 3, 400, centres=centres + 1.0)
    taught(bank, moved, moved_label, rng=rng)
    np.testing.assert_allclose(bank.sums.mean[bank.binding[0] - 1], centres[0] + 1.0, atol=0.4)


def test_tables_of_tensors_agree(rng):
    shapes = bank_shapes(C, K, D, R)
    assert {name: value.shape for name, value in empty_bank(C, K, D, R).items()} == shapes
    assert all(shapes[name][axis] == C for name, axis in bank_axes("C").items())
    assert all(shapes[name][axis] == K for name, axis in bank_axes("K").items())


def test_default_sizes_are_within_the_promised_two_megabytes():
    assert sum(value.nbytes for value in empty_bank(112, 126, 192, 16).values()) <= 2_000_000


def test_what_is_left_open_in_a_mean_favours_images_off_it_until_it_is_closed_again(rng):
    feature, label, centres = gaussians(rng, 2, 60, centres=np.stack([np.zeros(D), np.full(D, 1.2)]))
    bank = taught(bank_of(), feature, label, rng=rng)
    off = (centres[0] + 0.8 + rng.normal(size=(200, D))).astype(np.float32)  # nearer to the other class
    before = bank.logits(off)
    bank.leave_open(0.6 * (np.arange(C) == 0))
    assert np.mean(bank.logits(off).argmax(axis=1) == 0) > np.mean(before.argmax(axis=1) == 0) + 0.2
    bank.leave_open(np.zeros(C))
    np.testing.assert_allclose(bank.logits(off), before, atol=1e-5)
