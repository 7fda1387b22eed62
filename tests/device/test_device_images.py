"""Images and DATA: what is taken, and the one line for what is not."""

import numpy as np
import pytest
from PIL import Image

from firmware_host.bundle import DeviceError
from firmware_host.data import read_data
from firmware_host.images import load_image

SIZE = (8, 6)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def test_an_image_of_the_right_size_keeps_its_pixels(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", SIZE), pixels)
    np.testing.assert_array_equal(load_image(str(tmp_path / "a.png"), SIZE), pixels)
    np.testing.assert_array_equal(load_image(pixels, SIZE), pixels)


def test_another_size_is_resized_bicubically(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.array(Image.fromarray(pixels).resize((5, 4), Image.Resampling.BICUBIC))
    assert expected.shape == (4, 5, 3)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", (4, 5)), expected)
    np.testing.assert_array_equal(load_image(pixels, (4, 5)), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_other_modes_become_rgb(mode, tmp_path):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", SIZE[::-1], (255, 255, 255)).convert(mode).save(path)
    np.testing.assert_array_equal(load_image(path, SIZE), np.full((*SIZE, 3), 255, np.uint8))


def test_exif_orientation_is_applied(pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", SIZE), pixels[::-1, ::-1])


def test_what_is_no_image_gets_one_line(pixels, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.tile(pixels, (40, 40, 1))).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for name, message in {
        "text.png": "is not an image: give a file that Pillow reads",
        "empty.png": "is not an image",
        "cut.jpg": "cannot be read .*truncated.*: replace or remove it",
        "none.png": "does not exist: check the path",
    }.items():
        with pytest.raises(DeviceError, match=message) as error:
            load_image(tmp_path / name, SIZE)
        assert "\n" not in str(error.value)
        assert name in str(error.value)


def test_a_decompression_bomb_is_refused_not_warned_about(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for side in (12, 40):  # a warning by default, and an error by default
        Image.new("RGB", (side, side)).save(tmp_path / "big.png")
        with pytest.raises(DeviceError, match=r"cannot be read .*pixels"):
            load_image(tmp_path / "big.png", SIZE)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_arrays_of_another_kind_are_refused(array):
    with pytest.raises(DeviceError, match=r"give uint8 RGB \[height, width, 3\] or a path"):
        load_image(array, SIZE)


def test_a_folder_of_classes(make, tmp_path):
    root = make.folder_of_images(tmp_path / "data", each=2)
    (root / "red" / ".hidden").write_text("")
    (root / "red" / "Thumbs.db").write_text("")
    (root / ".git").mkdir()
    for split in ("train", "test"):
        data = read_data(str(root), split)
        assert data.labels == ["green", "green", "red", "red"]
        assert [path.name for path in data.images] == ["2.png", "3.png", "0.png", "1.png"]


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
        "empty": "holds no class: give a folder with one folder of images per class, or npz:PATH",
        "file": "is not a folder",
        "data": "blue is empty: add images or remove it",
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
        ({"class_names": np.array(["a", "b"], object)}, "not a readable .npz"),
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
