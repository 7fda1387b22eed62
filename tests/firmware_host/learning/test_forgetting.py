"""After a class is forgotten, all that waits, is kept or is doubted belongs to the class that it was taught for."""

import numpy as np
import pytest
from helpers.device_steps import feature_of, snapshot, watch

from firmware_host import Device

SETTLED = 20  # images of a class, more than the sixteen for which it is new


@pytest.fixture
def blank(make, tmp_path):
    return Device.open(make.write_bundle(tmp_path / "b", known=(), batch=8), runtime="numpy")


def taught_as(device, steps, images):
    """Return for each image with which classes it was trained."""
    found = [set() for _ in images]
    for step in steps:
        for row, slot in zip(step.feature, step.label):
            for place, image in enumerate(images):
                if slot >= 0 and np.allclose(row, feature_of(image), atol=1e-6):
                    found[place].add(device.classes[slot])
    return found


@pytest.mark.parametrize("replay", ["statistics", "none"])
@pytest.mark.parametrize("forgotten", ["red", "green", "white"])
def test_images_that_wait_go_on_being_trained_as_their_class(make, blank, monkeypatch, replay, forgotten):
    images, labels = make.images(["red", "green", "blue", "white"], 1)
    for image, label in zip(images, labels):
        blank.teach(image, label)
    steps = watch(monkeypatch)
    blank.forget_class(forgotten)
    left = [name for name in labels if name != forgotten]
    blank.teach(make.images([left[0]], 1, seed=9)[0][0], left[0], replay=replay)
    expected = [set() if name == forgotten else {name} for name in labels]
    found = taught_as(blank, steps, images)
    # With replay a class has as many rows as its share: the last image may fill those of the class that is taught.
    assert [a if name != left[0] else set() for a, name in zip(found, labels)] == [
        b if name != left[0] else set() for b, name in zip(expected, labels)
    ]
    assert found[labels.index(left[0])] <= {left[0]}


def test_a_slot_given_back_is_trained_with_nothing_of_the_class_before(make, blank, monkeypatch):
    images, labels = make.images(["red", "green"], 2)
    for image, label in zip(images, labels):
        blank.teach(image, label)
    blank.forget_class("green")
    steps = watch(monkeypatch)
    for image in make.images(["white"], 3)[0]:
        blank.teach(image, "white")
    assert taught_as(blank, steps, images[2:]) == [set(), set()]
    assert snapshot(blank).pending[1].dtype == np.int32


def doubt(make, device, image_of, label, times):
    for image in make.images([image_of], times, seed=3)[0]:
        assert device.teach(image, label)["steps"] == 0


@pytest.mark.parametrize("forgotten", ["red", "blue"])
def test_labels_doubted_in_a_row_are_counted_for_their_class(make, tmp_path, forgotten):
    """Three labels of green were doubted, none of the others: the fourth of green is believed, whatever its slot."""
    device = Device.open(make.write_bundle(tmp_path / "b", known=("red", "green", "blue")), runtime="numpy")
    doubt(make, device, "blue" if forgotten == "red" else "red", "green", 3)
    device.forget_class(forgotten)
    other = "blue" if forgotten == "red" else "red"
    [image], _ = make.images([other], 1, seed=4)
    assert device.predict(image).probability > 0.9
    [green], _ = make.images(["green"], 1, seed=4)
    assert device.predict(green).probability > 0.9
    assert device.teach(green, other)["steps"] == 0  # the first of that class
    assert device.teach(image, "green")["steps"] == 2  # the fourth of green


def test_a_new_class_in_a_slot_given_back_starts_without_doubt(make, tmp_path):
    device = Device.open(make.write_bundle(tmp_path / "b", known=("red", "green")), runtime="numpy")
    doubt(make, device, "red", "green", 3)
    device.forget_class("green")
    for image in make.images(["white"], 17, seed=6)[0]:  # settled, in green's slot
        device.teach(image, "white")
    state = snapshot(device)
    np.testing.assert_array_equal(state.doubted, [0, 0, 0, 0])
    device.forget_class("red")
    np.testing.assert_array_equal(snapshot(device).doubted, [0, 0, 0, 0])


@pytest.mark.parametrize("block", ["prototype", "mlp", "residual"])
def test_every_tensor_of_a_class_moves_with_it(make, tmp_path, block):
    """In the head, the statistics and the buffer; the scatter shared by all classes stays, and so does what no class
    owns."""
    bundle = make.write_bundle(tmp_path / "b", block=block, known=(), learning_rate=0.02)
    device = Device.open(bundle, runtime="numpy")
    device.learn(*make.images(["red", "green", "blue"], 6), replay="buffer:9")
    before = snapshot(device)
    device.forget_class("green")
    after = snapshot(device)
    order = [0, 2, 3]
    own = {"class_mask": 0, "class_mean": 0, "class_count": 0}
    for name in {"prototype": [], "mlp": ["w2", "b2"], "residual": ["w3", "b3"]}[block]:
        own.update({prefix + name: 0 if name.startswith("b") else 1 for prefix in ("", "m_", "v_")})
    for name, value in before.head.items():
        if name not in own:
            np.testing.assert_array_equal(after.head[name], value, err_msg=name)
            continue
        axis = own[name]
        np.testing.assert_array_equal(np.take(after.head[name], [0, 1, 2], axis), np.take(value, order, axis))
        assert not np.take(after.head[name], 3, axis).any(), name
    np.testing.assert_array_equal(after.statistics.mean[:3], before.statistics.mean[order])
    np.testing.assert_array_equal(after.statistics.count, [*before.statistics.count[order], 0])
    np.testing.assert_array_equal(after.statistics.scatter, before.statistics.scatter)
    kept = before.buffer.label != 1
    np.testing.assert_array_equal(after.buffer.feature, before.buffer.feature[kept])
    np.testing.assert_array_equal(after.buffer.label, np.array([0, 9, 1])[before.buffer.label[kept]])
    np.testing.assert_array_equal(after.buffer.seen, [6, 6, 0, 0])
    assert after.buffer.capacity == 9
    assert after.generator == before.generator


def test_the_only_class_can_be_forgotten_and_another_taught(make, blank):
    images, labels = make.images(["red"], 3)
    blank.learn(images, labels, replay="buffer:3")
    blank.teach(images[0], "red")
    blank.forget_class("red")
    assert blank.classes == ()
    with pytest.raises(ValueError, match="knows no class yet"):
        blank.predict(images[0])
    with pytest.raises(ValueError, match="'red' is not known: the device knows none"):
        blank.forget_class("red")
    assert blank.teach(images[0], "cherry", replay="buffer:3")["steps"] == 16
    assert blank.predict(images[0]).label == "cherry"
