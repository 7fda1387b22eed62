"""Learning unattended: one label at a time, what is replayed, doubted and rolled back, and going on after a stop."""

from types import SimpleNamespace

import numpy as np
import pytest

from firmware_host import Device, DeviceError
from firmware_host.bundle import ClassStatistics
from firmware_host.learning.doubt import PATIENCE, believed, doubts
from firmware_host.learning.guard import Guard
from firmware_host.learning.teaching import STEPS_SETTLED, STEPS_YOUNG, YOUNG, steps_for
from firmware_host.state.buffer import ReplayBuffer


@pytest.fixture
def open_device(bundle):
    return lambda **options: Device.open(bundle, runtime="numpy", **options)


def assert_equal(first, second):
    a, b = first._working.snapshot(), second._working.snapshot()
    assert (a.classes, a.generator, a.rolled_back) == (b.classes, b.generator, b.rolled_back)
    pairs = [(a.head[name], b.head[name]) for name in a.head]
    pairs += zip(a.statistics.arrays().values(), b.statistics.arrays().values())
    pairs += [(a.doubted, b.doubted), *zip(a.pending or (), b.pending or ())]
    if a.buffer or b.buffer:
        pairs += zip(a.buffer.arrays().values(), b.buffer.arrays().values())
    for mine, other in pairs:
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("block", ["prototype", "mlp", "residual"])
def test_a_class_taught_one_label_at_a_time(make, tmp_path, block):
    bundle = make.write_bundle(tmp_path / "b", block=block, known=(), learning_rate=0.02)
    device = Device.open(bundle, runtime="numpy")
    images, labels = make.images(["red", "green", "blue"], 10)
    order = np.random.default_rng(0).permutation(30)
    for row in order:
        result = device.teach(images[row], labels[row])
        assert (result["steps"], result["rolled_back"]) == (STEPS_YOUNG, 0)
    assert device.evaluate(*make.images(["red", "green", "blue"], 5, seed=8))["accuracy"] == 1


def test_a_new_class_is_there_at_once_and_costs_more_steps_than_an_old_one(make, open_device):
    device = open_device()
    [white], _ = make.images(["white"], 1)
    result = device.teach(white, "white")
    assert (result["images"], result["steps"], result["replaced"]) == (1, STEPS_YOUNG, 0)
    assert device.predict(white).label == "white"
    [red], _ = make.images(["red"], 1)
    assert device.teach(red, "red")["steps"] == STEPS_SETTLED
    assert [steps_for(count) for count in (1, YOUNG, YOUNG + 1)] == [STEPS_YOUNG, STEPS_YOUNG, STEPS_SETTLED]


def test_a_young_class_has_its_share_of_every_batch_and_a_settled_one_no_more_than_others(make, tmp_path, monkeypatch):
    bundle = make.write_bundle(tmp_path / "b", batch=20)
    device = Device.open(bundle, runtime="numpy")
    train, batches = device._working.head.train, []
    monkeypatch.setattr("firmware_host.learning.teaching.YOUNG_SHARE", 0.6)

    def watched(feature, label, *rest):
        batches.append((feature.copy(), np.bincount(label, minlength=3).tolist()))
        return train(feature, label, *rest)

    monkeypatch.setattr(device._working.head, "train", watched)
    images, labels = make.images(["white"], YOUNG + 1)  # of two classes known, each with more than YOUNG images
    shares = []
    for image, label in zip(images, labels):
        del batches[:]
        device.teach(image, label)
        shares.append([count for _, count in batches])
    assert shares[0] == shares[YOUNG - 1] == [[4, 4, 12]] * STEPS_YOUNG
    assert all(sorted(count) == [6, 7, 7] for count in shares[YOUNG])
    [feature] = device.features(images[-1:])
    feature = device._working.dequantize(feature)
    assert all((rows == feature).all(axis=1).sum() >= 1 for rows, _ in batches)  # the real image is in every batch


@pytest.mark.slow
@pytest.mark.parametrize("replay", ["statistics", "buffer:6", "none"])
def test_a_resumed_device_goes_on_bit_by_bit(make, bundle, tmp_path, replay):
    images, labels = make.images(["blue", "red", "white"], 8)
    order = np.random.default_rng(0).permutation(len(labels))
    through, stopped = (Device.open(bundle, tmp_path / name, runtime="numpy") for name in ("through", "stopped"))
    for row in order:
        through.teach(images[row], labels[row], replay)
        stopped.teach(images[row], labels[row], replay)
        stopped.save()
        stopped.close()
        stopped = Device.open(bundle, tmp_path / "stopped", runtime="numpy")
    assert_equal(stopped, through)


def test_units_reborn_come_from_the_saved_random_numbers(make, tmp_path):
    changes = {"maturity_threshold": 3, "replacement_rate": 0.1, "decay_rate": 0.5}
    bundle = make.write_bundle(tmp_path / "b", **changes)
    data = make.images(["blue", "red"], 6)
    through, stopped = (Device.open(bundle, tmp_path / name, runtime="numpy") for name in ("through", "stopped"))
    for device in (through, stopped):
        assert device.learn(*data)["replaced"] > 0
    stopped.save()
    resumed = Device.open(bundle, tmp_path / "stopped", runtime="numpy")
    assert resumed.learn(*data) == through.learn(*data)
    assert_equal(resumed, through)


def test_a_head_that_can_be_surprised_resumes_where_it_was(make, tmp_path):
    surprise = {"calming": 20.0, "calm": 7.0}
    bundle = make.write_bundle(tmp_path / "b", block="mlp", maturity_threshold=5, surprise=surprise)
    images, labels = make.images(["blue", "red"], 6)
    through, stopped = (Device.open(bundle, tmp_path / name, runtime="numpy") for name in ("through", "stopped"))
    for device in (through, stopped):
        result = device.learn(images, labels, replay="none", epochs=4)
        calm = float(device._working.head.get_state()["calm"])
        assert calm != surprise["calm"] + result["steps"]  # labels it had never seen were a surprise
    stopped.save()
    resumed = Device.open(bundle, tmp_path / "stopped", runtime="numpy")
    assert float(resumed._working.head.get_state()["calm"]) == calm
    assert resumed.learn(images, labels, epochs=2) == through.learn(images, labels, epochs=2)
    assert_equal(resumed, through)


def test_a_contradicted_label_is_believed_when_it_keeps_coming(make, open_device):
    device = open_device()
    for image in make.images(["red"], 3, seed=2)[0] + make.images(["green"], 3, seed=2)[0]:
        assert device.predict(image).probability > 0.8
    wrong, _ = make.images(["green"], PATIENCE + 1, seed=3)
    steps = [device.teach(image, "red")["steps"] for image in wrong]
    assert steps[: PATIENCE - 1] == [0] * (PATIENCE - 1)
    assert steps[PATIENCE - 1] == STEPS_SETTLED
    right, _ = make.images(["red"], 1, seed=4)
    assert device.teach(right[0], "red")["steps"] == STEPS_SETTLED


class SureHead:
    """Sees class 0 in features below zero and class 1 in others; class 2 never."""

    def infer(self, feature):
        return None, np.where(feature[:, :1] < 0, [0.95, 0.03, 0.02], [0.03, 0.95, 0.02])


def test_a_class_that_is_mostly_doubted_is_believed():
    feature = np.array([[-1.0], [-1], [-1], [1], [1], [1]])
    np.testing.assert_array_equal(believed(SureHead(), feature, np.array([0, 0, 1, 1, 1, 0])), [0, 1, 3, 4])
    np.testing.assert_array_equal(believed(SureHead(), feature, np.array([0, 0, 2, 1, 1, 2])), np.arange(6))
    half = np.array([0, 0, 1, 1])  # two labels of each class, one of them doubted
    np.testing.assert_array_equal(believed(SureHead(), feature[[0, 3, 1, 4]], half), np.arange(4))


@pytest.mark.parametrize(
    ("probabilities", "doubted"),
    [([0.09, 0.81, 0.1], True), ([0.1, 0.85, 0.05], False), ([0.09, 0.8, 0.11], False), ([0.19, 0.81, 0.0], False)],
)
def test_a_label_is_doubted_below_10_percent_against_more_than_80(probabilities, doubted):
    head = SimpleNamespace(infer=lambda feature: (None, np.array([probabilities])))
    assert doubts(head, np.zeros((1, 1)), np.array([0])).tolist() == [doubted]


class Breakable:
    """A head of two classes whose state is one number: logits +-`w` by the sign of the feature."""

    def __init__(self):
        self.state = {"w": np.float32(1), "class_mask": np.ones(2, np.float32)}

    def get_state(self):
        return dict(self.state)

    def set_state(self, state):
        self.state = dict(state)

    def infer(self, feature):
        logit = self.state["w"] * np.sign(feature[:, 0])
        return np.stack([-logit, logit], axis=1), None


@pytest.mark.parametrize(
    ("w", "losses", "reason"),
    [
        (2, [0.5, 0.4], None),
        (2, [0.5, float("nan")], "loss nan"),
        (np.inf, [0.5], "w is not finite"),
        (2e3, [0.5], "logits up to 2e+03"),
        (-1, [0.5], "accuracy on replayed classes fell from 100% to 0%"),
    ],
)
def test_a_broken_head_is_taken_back(w, losses, reason):
    head = Breakable()
    statistics = ClassStatistics(np.array([[-5.0], [5.0]]), [10, 10], np.eye(1))
    guard = Guard(head, statistics)
    head.state["w"] = np.float32(w)
    assert guard.judge(losses) == reason
    assert head.state["w"] == (w if reason is None else 1)
    head.state["w"] = np.float32(-1)
    unwatched = Guard(head, statistics, accuracy=False)
    head.state["w"] = np.float32(1)
    assert unwatched.judge([0.1]) is None


def test_a_broken_chunk_is_counted_and_logged_and_the_rest_goes_on(make, open_device, monkeypatch, caplog):
    device = open_device()
    train, calls = device._working.head.train, []

    def once_nan(*arguments):
        result = train(*arguments)
        calls.append(result)
        return result._replace(loss=float("nan")) if len(calls) == 4 else result

    monkeypatch.setattr(device._working.head, "train", once_nan)
    result = device.learn(*make.images(["blue"], 6), save_every=3)  # chunks of three steps
    assert (result["steps"], result["rolled_back"], device.rolled_back) == (60, 3, 3)
    assert caplog.messages == ["training steps 4 to 6 are rolled back: loss nan"]
    assert int(device._working.snapshot().head["step"]) == 57
    assert device.written["saves"] == 19
    device.save()
    assert open_device().rolled_back == 3


def test_a_label_that_breaks_the_head_is_taken_back(make, open_device, monkeypatch, caplog):
    device, untouched = open_device(), open_device()
    train = device._working.head.train
    monkeypatch.setattr(device._working.head, "train", lambda *a: train(*a)._replace(loss=float("inf")))
    [blue], _ = make.images(["blue"], 1)
    result = device.teach(blue, "blue", "buffer:3")
    assert result == {"images": 1, "steps": 0, "replaced": 0, "loss": None, "rolled_back": STEPS_YOUNG}
    assert caplog.messages == ["an image of class 'blue' is rolled back: loss inf"]
    untouched._working.rolled_back = STEPS_YOUNG
    assert_equal(device, untouched)


def test_an_error_after_a_save_goes_back_to_that_save(make, open_device):
    device = open_device()

    def interrupt(what, done, total):
        if what == "training" and done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device.learn(*make.images(["blue"], 6), progress=interrupt, save_every=3)
    assert int(device._working.snapshot().head["step"]) == 6
    assert_equal(device, open_device())


@pytest.mark.parametrize("block", ["prototype", "mlp", "residual"])
def test_a_forgotten_class_gives_its_slot_back(make, tmp_path, block):
    bundle = make.write_bundle(tmp_path / "b", block=block, known=(), learning_rate=0.02)
    device = Device.open(bundle, runtime="numpy")
    device.learn(*make.images(["red", "green", "blue", "white"], 8), replay="buffer:12")
    device.forget_class("green")
    assert device.classes == ("red", "blue", "white")
    assert device.evaluate(*make.images(["red", "blue", "white"], 5, seed=8))["accuracy"] == 1
    state = device._working.snapshot()
    assert sorted(set(state.buffer.label)) == [0, 1, 2]
    np.testing.assert_array_equal(state.head["class_count"], [8, 8, 8, 0])
    np.testing.assert_array_equal(state.head["class_mask"], [1, 1, 1, 0])
    device.learn(*make.images(["green"], 8), replay="buffer:12")
    assert device.evaluate(*make.images(["red", "green", "blue", "white"], 5, seed=8))["accuracy"] == 1
    with pytest.raises(DeviceError, match="class 'pink' is not known: the device knows red, blue, white, green"):
        device.forget_class("pink")


def test_the_buffer_is_balanced_and_keeps_each_image_equally_often():
    rng = np.random.default_rng(0)
    kept = np.zeros(60)
    for _ in range(400):
        buffer = ReplayBuffer.empty(10, 3, 1, np.dtype(np.int8))
        for number in range(60):  # 40 of class 0, then 15 and 5 of the others
            slot = 0 if number < 40 else 1 if number < 55 else 2
            buffer.add(np.array([number], np.int8), slot, rng)
        assert sorted(np.bincount(buffer.label).tolist()) == [3, 3, 4]
        np.testing.assert_array_equal(buffer.seen, [40, 15, 5])
        kept[buffer.feature[:, 0]] += 1
    for first, last in ((0, 40), (40, 55)):
        share = kept[first:last] / kept[first:last].mean()
        assert np.abs(share - 1).max() < 0.5  # 3.3 of 40: 33 times each, deviation 5.6
    assert buffer.feature.dtype == np.int8
    smaller = buffer.resized(4, rng)
    assert len(smaller.label) == 4
    assert np.bincount(smaller.label, minlength=3).min() >= 1
    with pytest.raises(DeviceError, match="replay buffer of 0 images: use 1 or more"):
        buffer.resized(0, rng)


def test_the_buffer_is_replayed_where_it_has_the_class(make, open_device):
    device = open_device()
    device.learn(*make.images(["blue"], 6), replay="buffer:4")
    working = device._working
    assert working.buffer.feature.dtype == np.int8
    kept = working.dequantize(working.buffer.feature)
    replay = working.replay(buffered=True)
    replay.draw(np.random.default_rng(0), 30)
    [feature], [label] = replay.take()
    assert np.bincount(label).tolist() == [10, 10, 10]
    from_buffer = np.array([(row == kept).all(axis=1).any() for row in feature])
    np.testing.assert_array_equal(from_buffer, label == 2)
    replay = working.replay(buffered=False)
    replay.draw(np.random.default_rng(0), 30)
    [feature], _ = replay.take()
    assert not any((row == kept).all(axis=1).any() for row in feature)
