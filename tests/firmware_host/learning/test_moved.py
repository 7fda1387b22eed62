"""A sensor that was moved: the looks of classes are forgotten, their names are not."""

import json

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.cli import main
from firmware_host.learning.moved import FEW
from firmware_host.state import read_file

SWAPPED = {"red": "green", "green": "red"}  # what the classes look like after the move


@pytest.fixture
def banked(make, tmp_path):
    return make.write_bundle(tmp_path / "banked", bank=True)


@pytest.mark.parametrize("bank", [True, False])
def test_a_few_images_are_enough_after_a_move(make, tmp_path, bank):
    bundle = make.write_bundle(tmp_path / "tiny", bank=bank)
    images, looks = make.images(("red", "green"), 3)
    labels = [SWAPPED[look] for look in looks]
    test, test_looks = make.images(("red", "green"), 10, seed=9)
    expected = [SWAPPED[look] for look in test_looks]
    with Device.open(bundle, tmp_path / "moved", runtime="numpy") as device:
        before = device.knowledge
        assert device.evaluate(test, expected)["accuracy"] == 0.0
        device.forget_looks()
        assert device.classes == ("red", "green")
        assert set(device.learned.values()) == {(0, 0)}
        device.learn(images, labels, epochs=1)
        assert device.evaluate(test, expected)["accuracy"] == 1.0
        assert device.learned == {"red": (0, 3), "green": (0, 3)}
        assert before is device.knowledge


def test_a_class_that_is_not_shown_again_is_not_predicted(make, banked, tmp_path):
    images, labels = make.images(("green",), 4)
    with Device.open(banked, tmp_path / "state", runtime="numpy") as device:
        device.forget_looks()
        for image, label in zip(images, labels):
            device.teach(image, label)
        red = device.predict(make.images(("red",), 1)[0][0])
    assert red.label == "green"
    assert red.probabilities["red"] == 0.0


def test_the_spread_within_classes_stays_and_counts_for_few_images(banked, tmp_path):
    with Device.open(banked, tmp_path / "state", runtime="numpy") as device:
        before = device._working.statistics.covariance()
        arrays = device._working.mixture.arrays()
        device.forget_looks()
        np.testing.assert_allclose(device._working.statistics.scatter, before)
        now = device._working.mixture.arrays()
        assert now["total"] == FEW < arrays["total"]
        np.testing.assert_allclose(now["scatter"] / FEW, arrays["scatter"] / arrays["total"], rtol=1e-5)
        assert arrays["scatter"].any()


def test_the_command_saves_and_undo_brings_everything_back(banked, tmp_path, capfd):
    common = ["--state", str(tmp_path / "state"), "--runtime", "numpy", "--json"]
    with Device.open(banked, tmp_path / "state", runtime="numpy") as device:
        start = device._working.snapshot()
    assert main(["state", str(banked), "moved", *common]) == 0
    assert json.loads(capfd.readouterr().out)["classes"] == ["red", "green"]
    saved = read_file(tmp_path / "state" / "state.a.npz").arrays
    assert not saved["head.class_count"].any()
    assert not saved["bank.binding"].any()
    assert main(["state", str(banked), "undo", *common]) == 0
    with Device.open(banked, tmp_path / "state", runtime="numpy") as device:
        for name, value in start.head.items():
            np.testing.assert_array_equal(device._working.snapshot().head[name], value)
