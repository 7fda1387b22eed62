"""The guard: how far the accuracy may fall, from which best, and what is watched at all."""

import numpy as np
import pytest
from helpers.device_steps import snapshot

from firmware_host import Device
from firmware_host.bundle import ClassStatistics
from firmware_host.learning.guard import Guard

LOGIT_LIMIT = 1000.0  # from firmware_host/README.md, "What protects the head", as are the 20 points below


class Threshold:
    """A head of two classes that sees class 1 in features above a threshold; it remembers what it was shown."""

    def __init__(self):
        self.state = {"at": np.float32(0), "scale": np.float32(1), "class_mask": np.ones(3, np.float32)}
        self.state["class_mask"][2] = 0
        self.unknown = 0.0  # logit of the slot of no class
        self.seen = set()

    def get_state(self):
        return {name: value.copy() for name, value in self.state.items()}

    def set_state(self, state):
        self.state = {name: np.array(value) for name, value in state.items()}

    def infer(self, feature):
        self.seen |= set(feature[:, 0].tolist())
        logit = self.state["scale"] * np.where(feature[:, 0] > self.state["at"], 1, -1)
        return np.stack([-logit, logit, np.full(len(feature), self.unknown)], axis=1), None


@pytest.fixture
def statistics():
    return ClassStatistics([[-5.0], [5.0], [0.0]], [10, 10, 0], [[18.0]])


@pytest.fixture
def guarded(statistics):
    """A guard, its head, and a function that makes the head wrong on so many of the probe's rows."""
    head = Threshold()
    guard = Guard(head, statistics)
    probe = sorted(head.seen)
    above = [value for value in probe if value > 0]
    assert (len(probe), len(above)) == (64, 32)  # as many of each class, all right at the start

    def wrong(rows):
        head.state["at"] = np.float32(above[rows - 1] if rows else 0.0)

    return guard, head, wrong


@pytest.mark.parametrize(("rows", "sound"), [(0, True), (1, True), (12, True), (13, False), (20, False), (32, False)])
def test_an_accuracy_twenty_points_below_its_best_is_taken_back(guarded, rows, sound):
    """Of 64 rows 12 are 19 points and 13 are 20.3."""
    guard, head, wrong = guarded
    wrong(rows)
    moved = float(head.state["at"])
    reason = guard.judge([0.5])
    assert (reason is None) == sound
    assert float(head.state["at"]) == (moved if sound else 0)
    if not sound:
        assert reason == f"accuracy on replayed classes fell from 100% to {1 - rows / 64:.0%}"


def test_small_steps_down_are_counted_from_the_best(guarded):
    guard, head, wrong = guarded
    wrong(10)
    assert guard.judge([]) is None
    at = float(head.state["at"])
    wrong(13)
    assert guard.judge([]) is not None
    assert float(head.state["at"]) == at  # back to the last sound state, not to the first


def test_the_best_rises_with_the_head(statistics):
    head = Threshold()
    Guard(head, statistics)
    above = [value for value in sorted(head.seen) if value > 0]
    head.state["at"] = np.float32(above[-1])  # half of the probe is wrong at the start
    guard = Guard(head, statistics)
    head.state["at"] = np.float32(above[19])
    assert guard.judge([]) is None
    head.state["at"] = np.float32(0)
    assert guard.judge([]) is None
    head.state["at"] = np.float32(above[19])
    assert "fell from 100% to 69%" in guard.judge([])
    assert head.state["at"] == 0


def test_where_old_classes_are_not_replayed_their_accuracy_is_not_watched(statistics):
    head = Threshold()
    guard = Guard(head, statistics, accuracy=False)
    head.state["at"] = np.float32(100)
    assert guard.judge([0.5]) is None
    assert head.state["at"] == 100
    head.state["scale"] = np.float32(2 * LOGIT_LIMIT)  # the rest is
    assert guard.judge([0.5]) == "logits up to 2e+03"
    assert (head.state["at"], head.state["scale"]) == (100, 1)


@pytest.mark.parametrize(("scale", "sound"), [(LOGIT_LIMIT - 1, True), (LOGIT_LIMIT, True), (LOGIT_LIMIT + 1, False)])
def test_logits_may_reach_a_thousand(guarded, scale, sound):
    guard, head, _ = guarded
    head.state["scale"] = np.float32(scale)
    assert (guard.judge([0.5]) is None) == sound


def test_the_logit_of_a_slot_without_a_class_breaks_nothing(guarded):
    guard, head, _ = guarded
    head.unknown = np.inf
    assert guard.judge([0.5]) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_taken_back(guarded, value):
    guard, head, _ = guarded
    head.state["spare"] = np.array([0.0, value])  # a tensor that no prediction needs
    assert guard.judge([0.5]) == "spare is not finite"
    assert "spare" not in head.state
    assert guard.judge([0.5, float(value), 0.5]) == f"loss {float(value)}"


def test_without_a_class_nothing_is_watched_but_numbers():
    head = Threshold()
    guard = Guard(head, ClassStatistics.empty(3, 1))
    head.state["at"], head.state["scale"] = np.float32(100), np.float32(1e6)
    assert guard.judge([0.5]) is None
    assert head.seen == set()


def flip(device, monkeypatch, times):
    """Let the device's next training steps turn every feature round, so that classes are confused."""
    head, train, left = device._working.head, device._working.head.train, [times]

    def flipping(*arguments):
        result = train(*arguments)
        if left[0]:
            left[0] -= 1
            state = head.get_state()
            head.set_state({**state, "class_mean": state["class_mean"][[1, 0, 2, 3]]})
        return result

    monkeypatch.setattr(head, "train", flipping)


@pytest.mark.parametrize("replay", ["statistics", "none"])
def test_a_confused_head_is_taken_back_where_old_classes_are_replayed(make, bundle, monkeypatch, replay):
    device = Device.open(bundle, runtime="numpy")
    [blue], _ = make.images(["blue"], 1)
    device.teach(blue, "blue")
    before = snapshot(device)
    flip(device, monkeypatch, 1)
    result = device.teach(blue, "blue", replay=replay)
    assert result["rolled_back"] == (16 if replay == "statistics" else 0)
    assert (device.rolled_back > 0) == (replay == "statistics")
    red_first = snapshot(device).head["class_mean"][0]
    expected = before.head["class_mean"][0 if replay == "statistics" else 1]
    np.testing.assert_allclose(red_first, expected, atol=1e-6)


def test_a_confused_chunk_is_taken_back_and_the_images_stay_observed(make, bundle, monkeypatch, caplog):
    device = Device.open(bundle, runtime="numpy")
    flip(device, monkeypatch, 1)
    result = device.learn(*make.images(["red"], 3), epochs=60)  # two steps an epoch, chunks of fifty
    assert (result["rolled_back"], device.rolled_back, result["steps"]) == (50, 50, 120)
    [message] = caplog.messages
    assert message.startswith("training steps 1 to 50 are rolled back: accuracy on replayed classes fell from 100%")
    state = snapshot(device)
    assert int(state.head["step"]) == 70
    np.testing.assert_array_equal(state.head["class_count"], [23, 20, 0, 0])


@pytest.mark.parametrize(("broken", "steps"), [([1, 2, 3], 150), ([2, 3, 4], 200)])
def test_three_broken_chunks_in_a_row_end_learning(make, bundle, monkeypatch, broken, steps):
    device = Device.open(bundle, runtime="numpy")
    before = snapshot(device)
    head, train, calls = device._working.head, device._working.head.train, []

    def sometimes_nan(*arguments):
        calls.append(None)
        result = train(*arguments)
        return result._replace(loss=float("nan")) if -(-len(calls) // 50) in broken else result

    monkeypatch.setattr(head, "train", sometimes_nan)
    with pytest.raises(ValueError, match=rf"diverged at step {steps} \(loss nan\): use a lower learning rate"):
        device.learn(*make.images(["red"], 3), epochs=200)
    after = snapshot(device)
    assert all(np.array_equal(value, after.head[name]) for name, value in before.head.items())
    assert device.rolled_back == 0


def test_three_broken_chunks_that_are_not_in_a_row_do_not(make, bundle, monkeypatch):
    device = Device.open(bundle, runtime="numpy")
    head, train, calls = device._working.head, device._working.head.train, []

    def sometimes_nan(*arguments):
        calls.append(None)
        result = train(*arguments)
        return result._replace(loss=float("nan")) if -(-len(calls) // 50) in (1, 2, 4) else result

    monkeypatch.setattr(head, "train", sometimes_nan)
    result = device.learn(*make.images(["red"], 3), epochs=125)
    assert (result["steps"], result["rolled_back"]) == (250, 150)
