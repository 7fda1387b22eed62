"""What a device knows, looked at and carried away, without changing it."""

import io
import shutil

import numpy as np
import pytest

from firmware_host import Device, DeviceError


@pytest.fixture
def device(bundle):
    with Device.open(bundle, runtime="numpy") as opened:
        yield opened


def content(device):
    """What an export holds, without when and how often it was written."""
    with np.load(io.BytesIO(device.knowledge.export())) as file:
        return {name: file[name].tolist() for name in file.files if name not in ("written", "running")}


def test_classes_and_units(make, device):
    images, labels = make.images(["blue"], 3)
    for image, label in zip(images, labels):
        device.teach(image, label)
    assert device.knowledge.classes() == [
        {"name": "red", "images": 20, "own": False},
        {"name": "green", "images": 20, "own": False},
        {"name": "blue", "images": 3, "own": True},
    ]
    units = device.knowledge.units()
    assert units["age"] == [48.0] * 5  # 16 training steps an image
    assert len(units["utility"]) == 5
    assert max(units["utility"]) > 0
    assert device.knowledge.images_kept == 0
    assert device.knowledge.tells_unknown is False
    device.teach(images[0], "blue", replay="buffer:8")
    assert device.knowledge.images_kept == 1


def test_accuracy_on_recollections_falls_where_the_head_is_broken_and_changes_nothing(make, device):
    before = content(device)
    assert device.knowledge.accuracy() == 1.0
    assert content(device) == before
    head = device._working.head
    state = head.get_state()
    head.set_state({**state, "class_mean": state["class_mean"][[1, 0, 2, 3]]})
    assert device.knowledge.accuracy() == 0.0


def test_accuracy_of_a_device_that_knows_nothing(make, tmp_path):
    with Device.open(make.write_bundle(tmp_path / "empty", known=()), runtime="numpy") as device:
        assert device.knowledge.accuracy() is None
        assert device.knowledge.classes() == []


def test_the_saved_file_is_the_newest(make, device):
    assert device.knowledge.saved_file is None
    for name in ("blue", "white"):
        device.add_class(name)
        assert device.save() == device.knowledge.saved_file


def test_export_is_a_state_file_that_another_device_takes_over_and_can_take_back(make, device, bundle, tmp_path):
    [image], _ = make.images(["blue"], 1)
    device.teach(image, "blue")
    other = shutil.copytree(bundle, tmp_path / "other")
    with Device.open(other, runtime="numpy") as second:
        second.knowledge.restore(device.knowledge.export())
        assert second.predict(image).probabilities == device.predict(image).probabilities
        second.undo()
        assert second.classes == ("red", "green")


def test_what_does_not_fit_is_refused_and_changes_nothing(make, device, tmp_path):
    before, export = content(device), device.knowledge.export()
    with Device.open(make.write_bundle(tmp_path / "mlp", "mlp"), runtime="numpy") as other:
        foreign = other.knowledge.export()
    for damaged in (foreign, b"", export[:-1], export[:500]):
        with pytest.raises(DeviceError):
            device.knowledge.restore(damaged)
    assert content(device) == before
