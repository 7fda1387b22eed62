"""Labels one at a time: how many steps each is worth, at which rate, and which labels are doubted."""

import numpy as np
import pytest
from helpers.device_steps import feature_of, labels_of, snapshot, watch

from firmware_host import Device
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.engines.protocol import TrainResult

# From the documentation of the device (firmware_host/README.md, "Learning"); written out, not imported.
STEPS_OF_A_NEW_CLASS, STEPS_OF_A_SETTLED_ONE, IMAGES_UNTIL_SETTLED = 16, 2, 16
SHARE_OF_THE_RATE = 0.3


@pytest.fixture
def device(bundle):
    return Device.open(bundle, runtime="numpy")


@pytest.fixture
def steps(monkeypatch):
    return watch(monkeypatch)


def sure(device, image, label):
    """Say that the head gives this label more than 80 % and leaves less than 10 % to any other."""
    prediction = device.predict(image)
    return prediction.label == label and prediction.probability > 0.9


def test_a_label_taught_alone_moves_the_head_at_0_3_of_the_learning_rate(make, device, steps):
    [red], [blue] = make.images(["red"], 1)[0], make.images(["blue"], 1)[0]
    device.teach(red, "red")
    device.teach(blue, "blue", learning_rate=0.01)
    device.teach(blue, "blue", replay="none", learning_rate=0.02)
    rates = [step.rate for step in steps]
    own = device.bundle.head["learning_rate"]
    expected = [own] * STEPS_OF_A_SETTLED_ONE + [0.01] * STEPS_OF_A_NEW_CLASS + [0.02] * STEPS_OF_A_NEW_CLASS
    np.testing.assert_allclose(rates, SHARE_OF_THE_RATE * np.array(expected))
    del steps[:]
    device.learn([red], ["red"], epochs=1, learning_rate=0.01)
    assert [step.rate for step in steps] == [0.01]  # all images at hand: the whole rate


def test_a_class_is_new_for_sixteen_images(make, device):
    images, labels = make.images(["white"], IMAGES_UNTIL_SETTLED + 2)
    counted = [device.teach(image, label)["steps"] for image, label in zip(images, labels)]
    assert counted == [STEPS_OF_A_NEW_CLASS] * IMAGES_UNTIL_SETTLED + [STEPS_OF_A_SETTLED_ONE] * 2


def test_labels_of_a_new_class_are_believed_though_the_head_contradicts_them(make, device):
    """Whoever teaches a class for the first time knows more than the head, which has never seen it."""
    [blue], _ = make.images(["blue"], 1)
    device.teach(blue, "cherry")
    for image in make.images(["red"], IMAGES_UNTIL_SETTLED - 1, seed=3)[0]:
        contradicted = sure(device, image, "red")
        assert device.teach(image, "cherry")["steps"] == STEPS_OF_A_NEW_CLASS
        if not contradicted:
            break
    else:
        raise AssertionError("the head never came to believe in the class")
    assert len(device.classes) == 3


def taught(make, device, name, colour, images, seed=6):
    for image in make.images([colour], images, seed=seed)[0]:
        device.teach(image, name)


@pytest.mark.parametrize("short", [1, 0])
def test_doubt_begins_with_the_seventeenth_image_of_a_class(make, device, short):
    taught(make, device, "sky", "blue", IMAGES_UNTIL_SETTLED - short)
    [red], _ = make.images(["red"], 1, seed=3)
    assert sure(device, red, "red")
    assert device.teach(red, "sky")["steps"] == (STEPS_OF_A_NEW_CLASS if short else 0)


def test_a_doubted_label_moves_the_class_mean_and_is_not_trained_on(make, device, steps):
    [green], _ = make.images(["green"], 1, seed=3)
    assert sure(device, green, "green")
    before = snapshot(device)
    result = device.teach(green, "red")
    assert (result["steps"], result["loss"], result["images"], steps) == (0, None, 1, [])
    after = snapshot(device)
    mean = (20 * before.statistics.mean[0] + feature_of(green)) / 21
    np.testing.assert_array_equal(after.statistics.count, [21, 20, 0, 0])
    np.testing.assert_allclose(after.statistics.mean[0], mean, atol=1e-6)
    np.testing.assert_allclose(after.head["class_mean"][0], mean, atol=1e-6)
    np.testing.assert_array_equal(after.head["w2"], before.head["w2"])
    [red], _ = make.images(["red"], 1, seed=4)
    device.teach(red, "red")
    assert not any(labels_of(steps, green)[0]), "a doubted image waits for no batch either"


def test_the_fourth_doubted_label_in_a_row_is_believed_and_the_row_is_of_one_class(make, device):
    taught(make, device, "sky", "blue", IMAGES_UNTIL_SETTLED + 1)
    [red], [green], [blue] = (make.images([name], 1, seed=3)[0] for name in ("red", "green", "blue"))

    def steps(image, label):
        return device.teach(image, label)["steps"]

    assert [steps(green, "red") for _ in range(3)] == [0, 0, 0]
    assert [steps(red, "green") for _ in range(3)] == [0, 0, 0]  # another class, another row
    assert steps(blue, "sky") == 2  # a label that is not doubted, of a third class, ends no row of theirs
    assert steps(green, "red") == 2  # the fourth
    assert steps(green, "red") == 0  # and a row begins again
    assert steps(red, "red") == 2  # one that is not doubted ends the row of its class
    assert [steps(green, "red") for _ in range(3)] == [0, 0, 0]
    assert steps(green, "red") == 2


def test_a_label_is_doubted_only_where_the_head_is_sure_of_another_class(make, device):
    [red], _ = make.images(["red"], 1, seed=3)
    [green], _ = make.images(["green"], 1, seed=3)
    for share in np.linspace(0, 1, 21):
        image = np.round(share * red + (1 - share) * green).astype(np.uint8)
        label, probability = device.predict(image)[:2]
        fresh = Device.open(device.bundle.path, runtime="numpy")
        doubted = fresh.teach(image, "red")["steps"] == 0
        assert doubted == (label == "green" and 1 - probability < 0.1)  # two classes: then green has above 80 % too


def test_without_replay_only_classes_at_hand_compete(make, device, steps):
    [red], [blue] = (make.images([name], 1, seed=3)[0] for name in ("red", "blue"))
    device.teach(blue, "blue", replay="none")
    assert {tuple(step.mask) for step in steps} == {(0, 0, 1, 0)}
    assert labels_of(steps, blue) == [[2]] * STEPS_OF_A_NEW_CLASS
    assert all((step.label >= 0).sum() == 1 for step in steps)
    del steps[:]
    device.teach(red, "red", replay="statistics")
    assert {tuple(step.mask) for step in steps} == {(1, 1, 1, 0)}
    assert all((step.label >= 0).all() for step in steps)


def test_the_last_images_are_trained_on_together_and_the_oldest_gives_way(make, device, steps):
    images, labels = make.images(["blue", "white"], 3)
    for image, label in zip(images, labels):
        del steps[:]
        device.teach(image, label, replay="none")
    last = [labels_of(steps, image)[0] for image in images]
    assert last == [[], [], [2], [3], [3], [3]]  # a batch has four rows
    del steps[:]
    device.teach(images[0], "blue")  # with replay two of the four are real images
    kept = [any(labels_of(steps, image)[step] for step in range(len(steps))) for image in images]
    assert kept == [True, False, False, False, False, True]


def test_new_classes_together_have_0_3_of_a_batch_where_an_equal_share_is_less(make, tmp_path, steps):
    device = Device.open(make.write_bundle(tmp_path / "b", batch=20, known=("red", "green", "white")), runtime="numpy")
    [blue], _ = make.images(["blue"], 1)
    del steps[:]  # those of the bundle's golden file
    device.teach(blue, "blue")
    assert len(steps) == STEPS_OF_A_NEW_CLASS
    assert {int((step.label == 3).sum()) for step in steps} == {6}  # of 20; a quarter would be five


def test_images_kept_from_before_are_not_replayed_where_statistics_are_asked_for(make, device, steps):
    images, labels = make.images(["red", "green"], 3, seed=5)
    device.learn(images, labels, "buffer:6", epochs=1)
    [red], _ = make.images(["red"], 1, seed=6)
    for replay, kept in (("statistics", False), ("buffer:6", True)):
        del steps[:]
        device.teach(red, "red", replay=replay)
        assert any(rows for image in images for rows in labels_of(steps, image)) == kept


@pytest.mark.parametrize(("unit", "counted"), [(-1, 0), (0, STEPS_OF_A_NEW_CLASS), (4, STEPS_OF_A_NEW_CLASS)])
def test_every_unit_that_is_reset_is_counted(make, device, monkeypatch, unit, counted):
    monkeypatch.setattr(NumpyHead, "train", lambda self, *batch: TrainResult(0.5, 1.0, unit))
    [blue], _ = make.images(["blue"], 1)
    assert device.teach(blue, "blue")["replaced"] == counted
