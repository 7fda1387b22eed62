"""Class statistics, whatever comes in: one by one, all at once and in parts are the same as plain NumPy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from firmware_host.bundle import ClassStatistics
from firmware_host.shared.statistics import evenly

SLOTS, SIZE = 4, 3
QUIET = settings(derandomize=True, deadline=None, max_examples=80)
values = st.floats(-1e3, 1e3, width=32)


@st.composite
def lessons(draw):
    """Images of some classes, in any order and number, none included: feature [n, d], label [n]."""
    n = draw(st.integers(0, 12))
    return (
        draw(hnp.arrays(np.float64, (n, SIZE), elements=values)),
        draw(hnp.arrays(np.int64, n, elements=st.integers(0, SLOTS - 1))),
    )


def plain(feature, label):
    """Count, mean and scatter as they are defined."""
    count = np.bincount(label, minlength=SLOTS).astype(float)
    mean, scatter = np.zeros((SLOTS, SIZE)), np.zeros((SIZE, SIZE))
    for slot in np.flatnonzero(count):
        rows = feature[label == slot]
        mean[slot] = rows.mean(axis=0)
        scatter += (rows - mean[slot]).T @ (rows - mean[slot])
    return count, mean, scatter


@given(lessons(), st.lists(st.integers(0, 12), max_size=3))
@QUIET
def test_one_by_one_all_at_once_and_in_parts_are_the_same(taught, cuts):
    feature, label = taught
    singly, together, parts = (ClassStatistics.empty(SLOTS, SIZE) for _ in range(3))
    for row, slot in zip(feature, label):
        singly.update(row, int(slot))
    together.update_all(feature, label)
    for rows in np.split(np.arange(len(label)), sorted(min(cut, len(label)) for cut in cuts)):
        parts.update_all(feature[rows], label[rows])
    count, mean, scatter = plain(feature, label)
    for statistics in (singly, together, parts):
        np.testing.assert_array_equal(statistics.count, count)
        np.testing.assert_array_equal(statistics.seen, np.flatnonzero(count))
        np.testing.assert_allclose(statistics.mean, mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(statistics.scatter, scatter, rtol=1e-9, atol=1e-6)
        degrees = max(len(label) - np.count_nonzero(count), 1)
        np.testing.assert_allclose(statistics.covariance(), scatter / degrees, rtol=1e-9, atol=1e-6)


@given(lessons(), lessons())
@QUIET
def test_a_start_and_more_are_the_same_as_all_from_the_start(before, after):
    start = ClassStatistics.empty(SLOTS, SIZE)
    start.update_all(*before)
    going_on = ClassStatistics(start.mean, start.count, start.scatter)
    for row, slot in zip(*after):
        going_on.update(row, int(slot))
    count, mean, scatter = plain(*(np.concatenate(both) for both in zip(before, after)))
    np.testing.assert_array_equal(going_on.count, count)
    np.testing.assert_allclose(going_on.mean, mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(going_on.scatter, scatter, rtol=1e-9, atol=1e-6)


@given(lessons(), st.integers(0, 9), st.integers(0, 2**32))
@QUIET
def test_what_is_drawn_is_finite_balanced_and_of_classes_seen(taught, rows, seed):
    statistics = ClassStatistics.empty(SLOTS, SIZE)
    statistics.update_all(*taught)
    if not len(taught[1]):
        return
    feature, label = statistics.sample(np.random.default_rng(seed), rows)
    assert np.isfinite(feature).all()
    assert (feature.shape, label.shape) == ((rows, SIZE), (rows,))
    drawn = np.bincount(label, minlength=SLOTS)[statistics.seen]
    assert drawn.sum() == rows
    assert drawn.max() - drawn.min() <= 1
    expected = statistics.expect(np.random.default_rng(seed), statistics.seen)
    assert expected.shape == (len(statistics.seen), SIZE)
    assert np.isfinite(expected).all()


@given(st.lists(st.integers(0, 99), min_size=1, max_size=7, unique=True), st.integers(0, 20), st.integers(0, 2**32))
@QUIET
def test_slots_are_dealt_out_evenly(slots, rows, seed):
    dealt = evenly(np.random.default_rng(seed), np.array(slots), rows).tolist()
    rng = np.random.default_rng(seed)
    rounds = [rng.permutation(slots).tolist() for _ in range(-(-rows // len(slots)))]
    assert dealt == [slot for each in rounds for slot in each][:rows]  # whatever the call, the same numbers
    counts = [dealt.count(slot) for slot in slots]
    assert len(dealt) == sum(counts) == rows
    assert max(counts) - min(counts) <= 1
