"""Copies of images: of the test among the training images, and of one class in another."""

import shutil

import numpy as np
import pytest
from PIL import Image

from keras_cbpnet.data import open_dataset
from keras_cbpnet.data.duplicates import duplicates


@pytest.fixture
def photos(tmp_path):
    """Two classes of three training images and two test images, all different."""
    for label, name in enumerate("ab"):
        for part, count in (("train", 3), ("test", 2)):
            for index in range(count):
                file = tmp_path / "photos" / part / name / f"{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (6, 6), (label, index, part == "test")).save(file)
    return tmp_path / "photos"


def found(photos):
    return duplicates(open_dataset(f"folder:{photos}", 4))


def test_images_that_are_all_different_give_no_line(photos):
    shutil.copy(photos / "train" / "a" / "0.png", photos / "train" / "a" / "0 (1).png")  # costs nothing but weight
    assert found(photos) == []
    assert duplicates(open_dataset("digits", 8)) == []


def test_test_images_that_are_training_images_too(photos):
    shutil.copy(photos / "train" / "a" / "1.png", photos / "test" / "a" / "holiday.png")
    shutil.copy(photos / "test" / "b" / "0.png", photos / "train" / "b" / "b.png")
    (line,) = found(photos)
    assert line == (
        f"warning: 2 of 5 test images are training images too ({photos}/test/a/holiday.png is "
        f"{photos}/train/a/1.png), which makes the accuracy look too high; remove the copies"
    )


def test_training_images_in_two_classes(photos):
    shutil.copy(photos / "train" / "a" / "2.png", photos / "train" / "b" / "x.png")
    (line,) = found(photos)
    assert line.startswith(
        f"warning: 1 of 7 training images are copies of an image of another class ({photos}/train/b/x.png is "
        f"{photos}/train/a/2.png); "
    )


def test_arrays(tmp_path):
    x, y = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[[3, 2]], y_test=y[[3, 2]], class_names=["p", "q"])
    (line,) = duplicates(open_dataset(f"npz:{tmp_path / 'd.npz'}", 4))
    assert line.startswith("warning: 2 of 2 test images are training images too (image 0 of x_test is image 3 of x_tr")
