"""Batches that are drawn and computed together are, bit by bit, those of one step after the other."""

import numpy as np
import pytest
from helpers.device_steps import everything, watch

from firmware_host import Device
from firmware_host.bundle import ClassStatistics
from firmware_host.learning import replay as together
from firmware_host.learning.batches import Rows, drawn
from firmware_host.learning.replay import Replay
from firmware_host.shared.statistics import evenly
from firmware_host.state.buffer import ReplayBuffer

D, C, B = 48, 7, 10


@pytest.fixture
def statistics():
    rng = np.random.default_rng(3)
    found = ClassStatistics.empty(C, D)
    found.update_all(rng.normal(size=(90, D)) @ rng.normal(size=(D, D)), rng.integers(0, C - 2, 90))
    found.update(rng.normal(size=D), C - 1)  # one class of a single image, one of none
    return found


@pytest.fixture
def buffer():
    rng = np.random.default_rng(4)
    kept = ReplayBuffer.empty(12, C, D, np.dtype(np.int8))
    for _ in range(40):
        kept.add(rng.integers(-128, 128, D).astype(np.int8), int(rng.integers(0, 3)), rng)
    return kept


def plain(raw):
    return raw.astype(np.float32) / np.float32(7)


def one_by_one(statistics, buffer, rng, images, rows, epochs, replays):
    """Yield images, replayed features, their slots and fresh weights of each step, as a loop over steps draws them."""
    for _ in range(epochs):
        order = rng.permutation(images)
        for start in range(0, images, rows):
            feature, label = np.zeros((0, D), np.float32), np.zeros(0, int)
            if replays:
                label = evenly(rng, statistics.seen, B // 2)
                factor = np.linalg.cholesky(statistics.covariance(statistics.shrinkage))
                feature = (statistics.mean[label] + rng.standard_normal((B // 2, D)) @ factor.T).astype(np.float32)
                for row, slot in enumerate(label if buffer is not None else []):
                    raw = buffer.draw(int(slot), rng)
                    feature[row] = feature[row] if raw is None else plain(raw)
            limit = np.sqrt(6 / D)
            yield order[start : start + rows], feature, label, rng.uniform(-limit, limit, D).astype(np.float32)


@pytest.mark.parametrize("chunk", [50, 4])
@pytest.mark.parametrize("kind", ["statistics", "buffer", "none"])
@pytest.mark.parametrize("numbers", [1, 1000, 1 << 15])
def test_steps_are_drawn_ahead_in_their_order(statistics, buffer, monkeypatch, chunk, kind, numbers):
    monkeypatch.setattr(together, "TOGETHER", numbers)
    kept, replays = (buffer if kind == "buffer" else None), kind != "none"
    here, there = np.random.default_rng(1), np.random.default_rng(1)
    replay = Replay(statistics, kept, plain) if replays else None
    expected = one_by_one(statistics, kept, there, 13, 4, 3, replays)
    for step, found in enumerate(drawn(13, D, 4, 3, replay, B // 2, chunk, here)):
        rows, feature, label, fresh = next(expected)
        assert found.epoch == (step // 4 if step % 4 == 0 else None)
        assert found.rows.tobytes() == rows.tobytes()
        assert found.fresh.tobytes() == fresh.tobytes()
        for mine, slots in found.replayed:
            assert mine.tobytes() == feature.tobytes()
            assert mine.dtype == np.float32
            assert slots.tolist() == label.tolist()
        assert len(found.replayed) == replays
        if (step + 1) % chunk == 0:  # where a state may be saved
            assert here.bit_generator.state == there.bit_generator.state
    assert step == 11
    assert here.bit_generator.state == there.bit_generator.state


def test_few_batches_are_computed_at_once_where_they_are_large(statistics):
    assert Replay(statistics).together(16) == (1 << 15) // (16 * D)
    assert Replay(statistics).together(10**6) == 1
    with pytest.raises(ValueError, match="class statistics hold no image yet"):
        Replay(ClassStatistics.empty(C, D))


def test_rows_are_filled_again():
    rows, rng = Rows(5, 3), np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3)), rng.normal(size=(3, 3)).astype(np.float32)
    feature, label = rows.fill((first, np.array([1, 2])), (second, np.array([0, 0, 3])))
    np.testing.assert_array_equal(feature, np.concatenate([first.astype(np.float32), second]))
    assert label.tolist() == [1, 2, 0, 0, 3]
    assert (feature.dtype, label.dtype) == (np.float32, np.int32)
    feature, label = rows.fill((first[:1], np.array([4])))
    np.testing.assert_array_equal(feature, np.concatenate([first[:1].astype(np.float32), np.zeros((4, 3))]))
    assert label.tolist() == [4, -1, -1, -1, -1]
    assert rows.fill()[1].tolist() == [-1] * 5


def shares(working, rows):
    """Return the slots of a batch: classes of up to 16 images together have three tenths of it, or their number's."""
    seen, count = working.statistics.seen, working.statistics.count
    young, settled = seen[count[seen] <= 16], seen[count[seen] > 16]
    if not len(young) or not len(settled):
        return evenly(working.rng, seen, rows)
    many = round(rows * max(0.3, len(young) / len(seen)))
    return np.concatenate([evenly(working.rng, settled, rows - many), evenly(working.rng, young, many)])


def real_and_replayed(working, feature, label, rows, buffered):
    """Return one batch of a lesson and its slots, drawn for this step alone."""
    rng, statistics = working.rng, working.statistics
    slots = shares(working, rows)
    batch = statistics.expect(rng, slots)
    for row, slot in enumerate(slots if buffered and working.buffer is not None else []):
        raw = working.buffer.draw(int(slot), rng)
        batch[row] = batch[row] if raw is None else working.dequantize(raw)
    places = {int(slot): list(rng.permutation(np.flatnonzero(slots == slot))) for slot in np.unique(slots)}
    for index in rng.permutation(len(label)):
        if places.get(int(label[index])):
            batch[places[int(label[index])].pop()] = feature[index]
    return batch, slots


@pytest.mark.parametrize("kind", ["statistics", "buffer:5", "none"])
def test_lessons_are_those_of_one_step_after_the_other(make, bundle, monkeypatch, kind, tmp_path):
    """A device whose steps are drawn one at a time, and one as it is, are taught the same."""
    from firmware_host.learning import teaching

    def one_at_a_time(working, feature, label, settings, steps):
        for _ in range(steps):
            rows = (feature, label)
            if settings.replays:
                rows = real_and_replayed(working, feature, label, settings.batch, settings.buffer > 0)
            limit = np.sqrt(6 / feature.shape[1])
            yield rows, working.rng.uniform(-limit, limit, feature.shape[1]).astype(np.float32)

    images, labels = make.images(["blue", "red", "white", "green"], 5)
    order = np.random.default_rng(0).permutation(len(labels))
    found = []
    for name, patched in (("before", True), ("now", False)):
        with monkeypatch.context() as patch:
            if patched:
                patch.setattr(teaching, "_batches", one_at_a_time)
            steps = watch(patch)
            device = Device.open(bundle, tmp_path / name, runtime="numpy")
            for row in order:
                device.teach(images[row], labels[row], kind)
            found.append((steps, {**everything(device), "device": ""}))  # a secret of each
    (before, told), (now, same) = found
    assert len(before) == len(now) > 100
    for one, other in zip(before, now):
        assert [part.tobytes() for part in map(np.asarray, one)] == [part.tobytes() for part in map(np.asarray, other)]
    np.testing.assert_equal(same, told)
