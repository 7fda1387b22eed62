"""All images at hand: which labels are trained on, what competes, and what is replayed."""

import numpy as np
import pytest
from helpers.device_steps import feature_of, labels_of, snapshot, watch

from firmware_host import Device


@pytest.fixture
def device(bundle):
    return Device.open(bundle, runtime="numpy")


@pytest.fixture
def steps(monkeypatch):
    return watch(monkeypatch)


def head_of(device):
    return device._working.head


def by_epoch(rows, epochs):
    """Return how often an image stood in the batches of each epoch, from `labels_of`."""
    assert len(rows) % epochs == 0
    return [sum(map(len, part)) for part in np.array_split(np.array(rows, object), epochs)]


def test_a_doubted_label_comes_out_of_the_batches_after_the_first_epoch(make, device, steps):
    images, labels = make.images(["green"], 7)
    [wrong], _ = make.images(["red"], 1, seed=9)
    before = snapshot(device)
    device.learn([*images, wrong], [*labels, "green"], epochs=4)
    assert by_epoch(labels_of(steps, wrong), 4) == [1, 0, 0, 0]
    for image in images:
        assert by_epoch(labels_of(steps, image), 4) == [1, 1, 1, 1]
    rows = np.array([feature_of(image) for image in [*images, wrong]])
    mean = (20 * before.statistics.mean[1] + rows.sum(axis=0)) / 28  # all the same, it moves the class mean
    after = snapshot(device)
    np.testing.assert_array_equal(after.head["class_count"], [20, 28, 0, 0])
    np.testing.assert_allclose(after.head["class_mean"][1], mean, atol=1e-6)
    np.testing.assert_allclose(after.statistics.mean[1], mean, atol=1e-6)


def test_a_class_that_is_mostly_doubted_is_trained_on(make, device, steps):
    """All labels of the class are contradicted: then it is the head that is wrong."""
    images, _ = make.images(["red"], 3, seed=9)
    assert all(device.predict(image).probability > 0.9 for image in images)
    device.learn(images, ["green"] * 3, epochs=3, learning_rate=1e-6)
    assert all(device.predict(image).label == "red" for image in images)
    for image in images:
        assert by_epoch(labels_of(steps, image), 3) == [1, 1, 1]
        assert {slot for row in labels_of(steps, image) for slot in row} == {1}


def test_labels_are_judged_again_after_epochs_1_2_4_and_8(make, device, monkeypatch):
    asked = []
    infer = type(head_of(device)).infer
    steps = watch(monkeypatch)
    [image], _ = make.images(["green"], 1, seed=9)

    def watched(self, feature):
        if np.allclose(feature[0], feature_of(image), atol=1e-6):
            asked.append(len(steps))
        return infer(self, feature)

    monkeypatch.setattr(type(head_of(device)), "infer", watched)
    device.learn([image], ["green"], epochs=10)
    assert len(steps) == 10
    assert sorted(set(asked)) == [1, 2, 4, 8]


def test_without_replay_every_label_is_believed(make, device, steps):
    images, labels = make.images(["green"], 7)
    [wrong], _ = make.images(["red"], 1, seed=9)
    device.learn([*images, wrong], [*labels, "green"], replay="none", epochs=4)
    assert by_epoch(labels_of(steps, wrong), 4) == [1, 1, 1, 1]
    assert {tuple(step.mask) for step in steps} == {(0, 1, 0, 0)}  # and only classes at hand compete in the loss


@pytest.mark.parametrize("batch", [4, 5])
def test_half_of_each_batch_is_replayed(make, tmp_path, steps, batch):
    device = Device.open(make.write_bundle(tmp_path / "b", batch=batch), runtime="numpy")
    del steps[:]  # those that made the bundle
    images, labels = make.images(["blue"], 6)
    device.learn(images, labels, epochs=1)
    real = batch - batch // 2
    assert len(steps) == -(-6 // real)
    for number, step in enumerate(steps):
        found = sum(labels_of([step], image)[0] == [2] for image in images)
        assert found == min(real, 6 - real * number)
        assert (step.label >= 0).sum() == found + batch // 2
        np.testing.assert_array_equal(step.mask, [1, 1, 1, 0])
    assert {int(slot) for step in steps for slot in step.label if slot >= 0} == {0, 1, 2}


def test_the_buffer_is_replayed_only_where_it_is_asked_for(make, device, steps):
    kept, labels = make.images(["blue"], 2, seed=9)
    device.learn(kept, labels, replay="buffer:5", epochs=1)
    images, labels = make.images(["red"], 6)

    def replayed(replay):
        del steps[:]
        device.learn(images, labels, replay=replay, epochs=6)
        found = [slots for image in kept for slots in labels_of(steps, image)]
        assert {slot for slots in found for slot in slots} <= {2}
        return sum(map(len, found))

    blue_rows = lambda: sum(int((step.label == 2).sum()) for step in steps)  # noqa: E731
    assert replayed("statistics") == 0
    assert replayed("buffer:5") == blue_rows() > 0  # every replayed row of the class is a real image of it
    assert len(snapshot(device).buffer.label) == 5


@pytest.mark.parametrize(
    "bad", ["buffer", "buffer:0", "buffer:-1", "buffer:x", "statistics:3", "none:", "", "Buffer:3"]
)
def test_a_kind_of_replay_that_does_not_exist_is_refused(make, device, bad):
    images, labels = make.images(["red"], 1)
    for learn in (lambda: device.learn(images, labels, replay=bad), lambda: device.teach(images[0], "red", replay=bad)):
        with pytest.raises(ValueError, match=r"replay is .*: use one of statistics, none, buffer:N"):
            learn()
    with pytest.raises(ValueError, match=r"save-every is -1: use a number of steps"):
        device.learn(images, labels, save_every=-1)


def test_fresh_weights_of_a_reset_unit_are_uniform_up_to_the_root_of_six_over_d(make, device, steps):
    device.learn(*make.images(["red"], 8), epochs=50)
    fresh = np.concatenate([step.fresh for step in steps])
    assert fresh.dtype == np.float32
    assert 0.98 < np.abs(fresh).max() <= 1.0  # d is 6
    assert abs(fresh.mean()) < 0.08
    assert fresh.std() == pytest.approx(3**-0.5, rel=0.06)


def test_the_loss_is_the_mean_of_the_last_epoch(make, device, monkeypatch):
    head = type(head_of(device))
    train, calls = head.train, []

    def numbered(self, *arguments):
        calls.append(None)
        return train(self, *arguments)._replace(loss=float(len(calls)))

    monkeypatch.setattr(head, "train", numbered)
    result = device.learn(*make.images(["blue"], 5), epochs=3)  # three steps an epoch
    assert (result["loss"], result["steps"]) == (8.0, 9)
    assert device.teach(make.images(["red"], 1)[0][0], "red")["loss"] == 10.5  # steps 10 and 11


def test_units_that_are_reset_are_counted(make, device, monkeypatch):
    head = type(head_of(device))
    train, replaced = head.train, iter([3, -1, 0, 1, -1, 0, -1, 2])
    monkeypatch.setattr(head, "train", lambda *arguments: train(*arguments)._replace(replaced=next(replaced)))
    assert device.learn(*make.images(["blue"], 5), epochs=2)["replaced"] == 4
    assert device.teach(make.images(["red"], 1)[0][0], "red")["replaced"] == 1


def test_the_buffer_has_the_size_that_was_asked_for_last(make, device):
    images, labels = make.images(["red", "green"], 4)
    for capacity in (6, 3, 5):
        device.learn(images, labels, f"buffer:{capacity}", epochs=1)
        assert snapshot(device).buffer.capacity == len(snapshot(device).buffer.label) == capacity
