"""Labelled images: folders of classes and .npz files."""

import os

import numpy as np
import pytest

from firmware_host.bundle import DeviceError
from firmware_host.images.labelled import read_data


def test_a_folder_of_classes(make, tmp_path):
    root = make.folder_of_images(tmp_path / "data", each=2)
    (root / "red" / ".hidden").write_text("")
    (root / "red" / "Thumbs.db").write_text("")
    (root / ".git").mkdir()
    for split in ("train", "test"):
        data = read_data(str(root), split)
        assert data.labels == ["green", "green", "red", "red"]
        assert [os.path.basename(path) for path in data.images] == ["2.png", "3.png", "0.png", "1.png"]


def test_train_and_test_folders(make, tmp_path):
    make.folder_of_images(tmp_path / "data" / "train", each=2)
    make.folder_of_images(tmp_path / "data" / "test", each=1)
    assert len(read_data(str(tmp_path / "data"), "train").labels) == 4
    assert len(read_data(str(tmp_path / "data"), "test").labels) == 2


def test_a_class_may_be_called_train(make, tmp_path):
    root = make.folder_of_images(tmp_path / "data", each=1)
    (root / "red").rename(root / "train")
    assert read_data(str(root), "test").labels == ["green", "train"]


def test_folders_without_images_or_classes_are_refused(make, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    root = make.folder_of_images(tmp_path / "data")
    (root / "blue").mkdir()
    make.folder_of_images(tmp_path / "half" / "train")
    for name, message in {
        "empty": "has no classes: put the images of each class in a separate folder there",
        "file": "is not a folder",
        "data": "blue has no images: add some or remove the folder",
        "half": "has no folder test: add it",
    }.items():
        with pytest.raises(DeviceError, match=message):
            read_data(str(tmp_path / name), "test")


def npz(path, **changes):
    arrays = {
        "x_train": np.zeros((3, 4, 4, 3), np.uint8),
        "y_train": np.array([0, 1, 1]),
        "x_test": np.ones((2, 4, 4, 3), np.uint8),
        "y_test": np.array([1, 0]),
        "class_names": np.array(["red", "green"]),
    }
    np.savez(path, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})
    return f"npz:{path}"


def test_npz(tmp_path):
    source = npz(tmp_path / "a.npz")
    train, test = read_data(source, "train"), read_data(source, "test")
    assert train.labels == ["red", "green", "green"]
    assert test.labels == ["green", "red"]
    np.testing.assert_array_equal(test.images[0], np.ones((4, 4, 3), np.uint8))
    assert read_data(npz(tmp_path / "b.npz", x_test=None, y_test=None), "train").labels == train.labels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "lacks x_train: write x_train, y_train and class_names"),
        ({"x_train": np.zeros((3, 4, 4, 3))}, "x_train is float64"),
        ({"x_train": np.zeros((3, 4, 4), np.uint8)}, r"x_train is uint8 \[3, 4, 4\]"),
        ({"y_train": np.array([0, 1])}, r"y_train is int64 \[2\] for 3 images"),
        ({"y_train": np.array([0.0, 1, 1])}, "y_train is float64"),
        ({"y_train": np.array([0, 1, 2])}, "contains 2, class_names has 2 names"),
        ({"y_train": np.array([0, 1, -1])}, "contains -1"),
        ({"class_names": np.array([1, 2])}, "class_names is int64"),
        ({"class_names": np.array(["a", "b"], object)}, "class_names holds Python objects: write numbers"),
        ({"x_train": np.zeros((0, 4, 4, 3), np.uint8), "y_train": np.zeros(0, int)}, "holds no image"),
    ],
)
def test_a_bad_npz_is_refused(tmp_path, changes, message):
    with pytest.raises(DeviceError, match=message):
        read_data(npz(tmp_path / "a.npz", **changes), "train")


def test_a_damaged_or_missing_npz_is_refused(tmp_path):
    source = npz(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[:200])
    with pytest.raises(DeviceError, match=r"not a readable .npz"):
        read_data(source, "train")
    with pytest.raises(DeviceError, match=r"does not exist: give the path of an .npz file after npz:"):
        read_data(f"npz:{tmp_path / 'none.npz'}", "train")
