"""The batches of a training: which rows are real, which are drawn, and which classes compete."""

import numpy as np
import pytest

from firmware_host.bundle import ClassStatistics
from firmware_host.engines.protocol import TrainResult
from firmware_host.learning.learner import LearnSettings, observe, train


class Recorder:
    """A head that only writes down what it is given."""

    def __init__(self):
        self.batches, self.observed = [], []

    def observe(self, feature, label):
        self.observed.append((feature.copy(), label.copy()))

    def train(self, feature, label, *rest):
        self.batches.append((feature.copy(), label.copy(), *rest))
        return TrainResult(1.0, 1.0, -1)

    def infer(self, feature):
        return np.zeros((len(feature), 5)), np.full((len(feature), 5), 0.2)

    def get_state(self):
        return {"class_mask": np.ones(5)}


@pytest.mark.parametrize(("replay", "rows", "steps"), [("statistics", 3, 5), ("none", 5, 3)])
def test_batches(replay, rows, steps):
    rng = np.random.default_rng(0)
    statistics = ClassStatistics.empty(6, 4)
    for slot in (0, 1, 2):
        statistics.update(rng.normal(size=4), slot)
    feature, label = rng.normal(size=(13, 4)).astype(np.float32), np.array([4] * 7 + [2] * 6, np.int32)
    head = Recorder()
    observe(head, statistics, feature, label, 5)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in head.observed]), [*label, -1, -1])
    np.testing.assert_array_equal(statistics.count, [1, 1, 7, 0, 7, 0])
    result = train(head, statistics, feature, label, LearnSettings(replay, 2, 0.1, 5), np.random.default_rng(1))
    assert result == (2 * steps, 0, 1.0, 0)
    seen = []
    for x, y, mask, rate, fresh in head.batches:
        assert (x.shape, x.dtype, y.shape, y.dtype) == ((5, 4), np.float32, (5,), np.int32)
        assert rate == 0.1
        assert np.abs(fresh).max() <= np.sqrt(6 / 4)
        np.testing.assert_array_equal(mask, [1, 1, 1, 0, 1, 0] if replay == "statistics" else [0, 0, 1, 0, 1, 0])
        real = [row for row, slot in zip(x, y) if slot >= 0 and (row == feature).all(axis=1).any()]
        assert len(real) <= rows
        assert (y >= 0).sum() == len(real) + (2 if replay == "statistics" else 0)
        seen += [tuple(row) for row in real]
    for row in feature:
        assert seen.count(tuple(row)) == 2  # once an epoch
