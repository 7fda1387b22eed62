"""Data sources, splits and streams."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_cbpnet.data import Dataset, class_incremental, load_dataset, resize_images
from keras_cbpnet.data.cifar100 import CLASS_NAMES
from keras_cbpnet.data.dataset import stratified_split
from keras_cbpnet.errors import UserError


def toy(classes=6, per_class=4, size=2):
    """A data set whose every image is filled with its class's number."""
    labels = np.repeat(np.arange(classes), per_class).astype(np.int64)
    images = np.broadcast_to(labels[:, None, None, None], (len(labels), size, size, 3)).astype(np.uint8)
    return Dataset(images, labels, images[::2], labels[::2], tuple(f"class {c}" for c in range(classes)))


def write_images(folder, count, colour, size=(5, 7)):
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", size, (colour, index, 0)).save(folder / f"{index}.png")


def write_npz(path, **changes):
    data = toy()
    arrays = {name: getattr(data, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    arrays["class_names"] = np.array(data.class_names)
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return f"npz:{path}"


# --- preprocessing ---------------------------------------------------------------------------------------------------


def test_resize_is_pillows_bicubic():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    resized = resize_images(images, (4, 12))
    assert resized.shape == (2, 4, 12, 3)
    expected = np.asarray(Image.fromarray(images[1]).resize((12, 4), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resized[1], expected)


def test_resize_to_the_same_size_copies_nothing():
    images = toy().x_train
    assert resize_images(images, 2) is images


@pytest.mark.parametrize("size", [0, -3, (4, 0)])
def test_a_size_must_be_positive(size):
    with pytest.raises(UserError, match="not positive"):
        resize_images(toy().x_train, size)


# --- digits ----------------------------------------------------------------------------------------------------------


def test_digits():
    data = load_dataset("digits", 8)
    assert data.x_train.shape == (1438, 8, 8, 3)
    assert data.x_test.shape == (359, 8, 8, 3)
    assert data.class_names == tuple("0123456789")
    assert data.x_train.min() == 0
    assert data.x_train.max() == 255
    np.testing.assert_array_equal(data.x_train[..., 0], data.x_train[..., 2])
    assert np.bincount(data.y_test).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]


def test_digits_are_tested_on_the_same_images_whatever_the_seed():
    first, second = load_dataset("digits", 8, seed=0), load_dataset("digits", 8, seed=7)
    np.testing.assert_array_equal(first.x_test, second.x_test)
    np.testing.assert_array_equal(first.y_test, second.y_test)


# --- the split -------------------------------------------------------------------------------------------------------


def test_split_takes_a_fifth_of_every_class():
    labels = np.array([0] * 10 + [1] * 5 + [2] * 2, np.int64)
    train, test = stratified_split(labels, ("a", "b", "c"))
    assert np.bincount(labels[test]).tolist() == [2, 1, 1]
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(17))


def test_a_class_is_split_the_same_way_when_another_is_added():
    alone = stratified_split(np.zeros(20, np.int64), ("cat",))[1]
    labels = np.repeat([0, 1], [7, 20]).astype(np.int64)
    beside = stratified_split(labels, ("ant", "cat"))[1]
    np.testing.assert_array_equal(alone, beside[labels[beside] == 1] - 7)


def test_split_depends_on_the_seed():
    labels = np.zeros(100, np.int64)
    assert not np.array_equal(stratified_split(labels, ("a",), 0)[1], stratified_split(labels, ("a",), 1)[1])


# --- folders ---------------------------------------------------------------------------------------------------------


def test_folder_per_class(tmp_path):
    write_images(tmp_path / "dog", 5, 200)
    write_images(tmp_path / "cat", 10, 100)
    write_images(tmp_path / "cat" / "garden", 5, 100)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "Thumbs.db").write_text("not an image")
    data = load_dataset(f"folder:{tmp_path}", (4, 6))
    assert data.class_names == ("cat", "dog")
    assert data.x_train.shape == (12 + 4, 4, 6, 3)
    assert data.x_test.shape == (3 + 1, 4, 6, 3)
    assert set(data.x_train[data.y_train == 1][..., 0].ravel()) == {200}
    again = load_dataset(f"folder:{tmp_path}", (4, 6), seed=5)
    np.testing.assert_array_equal(data.x_test, again.x_test)


def test_folder_with_train_and_test(tmp_path):
    for part, count in (("train", 3), ("test", 1)):
        write_images(tmp_path / part / "a", count, 10)
        write_images(tmp_path / part / "b", count, 20)
    data = load_dataset(f"folder:{tmp_path}", 4)
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.y_test.tolist() == [0, 1]


def test_images_are_read_upright(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image = Image.new("RGB", (4, 2))
        image.paste((255, 255, 255), (0, 0, 2, 2))  # left half white
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees, clockwise: the white half comes up
        for index in range(2):
            image.save(tmp_path / name / f"{index}.png", exif=exif)
    data = load_dataset(f"folder:{tmp_path}", (4, 2))
    assert data.x_train[0, :2].min() == 255
    assert data.x_train[0, 2:].max() == 0


def test_imagenet_r_is_a_folder_of_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    write_images(tmp_path / "datasets" / "imagenet-r" / "n01443537", 10, 1)
    write_images(tmp_path / "datasets" / "imagenet-r" / "n01484850", 10, 2)
    data = load_dataset("imagenet_r", 4, seed=0)
    assert data.class_names == ("n01443537", "n01484850")
    assert (len(data.x_train), len(data.x_test)) == (16, 4)
    assert not np.array_equal(data.x_test, load_dataset("imagenet_r", 4, seed=1).x_test)


# --- CIFAR-100 -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_keras(monkeypatch):
    cifar100 = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(datasets=SimpleNamespace(cifar100=cifar100)))
    return cifar100


def test_cifar100_comes_from_keras(fake_keras):
    labels = np.arange(100, dtype=np.uint8)[:, None]
    images = np.broadcast_to(labels[:, :, None, None], (100, 32, 32, 3)).astype(np.uint8)
    fake_keras.load_data = lambda: ((images, labels), (images, labels))
    data = load_dataset("cifar100", 32)
    assert data.class_names == CLASS_NAMES == tuple(sorted(CLASS_NAMES))
    assert data.y_train.tolist() == list(range(100))


def test_cifar100_offline_names_the_file_to_put(fake_keras, monkeypatch, tmp_path):
    def load_data():
        raise Exception("URL fetch failure")  # what Keras raises

    fake_keras.load_data = load_data
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(UserError, match="cifar-100-python-target_archive") as error:
        load_dataset("cifar100", 32)
    assert str(tmp_path / "datasets") in str(error.value)
    assert "\n" not in str(error.value)


# --- npz -------------------------------------------------------------------------------------------------------------


def test_npz(tmp_path):
    spec = write_npz(tmp_path / "toy.npz", y_train=toy().y_train.astype(np.uint8))
    data = load_dataset(spec, 4)
    assert data.x_train.shape == (24, 4, 4, 3)
    assert data.y_train.dtype == np.int64
    assert data.class_names == toy().class_names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "no array 'y_test'"),
        ({"x_train": toy().x_train.astype(np.float32)}, "x_train has dtype float32"),
        ({"x_test": toy().x_test[..., :1]}, r"x_test has shape \(12, 2, 2, 1\)"),
        ({"y_train": toy().y_train + 1}, "y_train contains label 6"),
        ({"y_train": toy().y_train - 1}, "y_train contains label -1"),
        ({"y_train": toy().y_train.astype(np.float64)}, "y_train in .* dtype float64"),
        ({"y_train": toy().y_train[:-1]}, "24 images need one"),
        ({"y_test": np.zeros(12, np.int64)}, "class 'class 1' has no test images"),
        ({"class_names": np.array([])}, "class_names in .* dtype float64"),
        ({"class_names": np.array([], "U1")}, "no classes"),
        ({"class_names": np.array(["a"] * 6)}, "'a' appears more than once"),
        ({"class_names": np.array(["a", "b", "c", "d", "e", ""])}, "''"),
        ({"class_names": np.array([f"c{i}" for i in range(7)])}, "class 'c6' has no train images"),
        ({"class_names": np.array(["a"] * 6, object)}, "pickled objects"),
    ],
)
def test_bad_npz(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        load_dataset(write_npz(tmp_path / "bad.npz", **changes), 4)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mnist", "unknown data set 'mnist'; choose one of digits, cifar100, imagenet_r, folder:PATH, npz:PATH"),
        ("zip:a.zip", "unknown data set 'zip:a.zip'"),
        ("folder:", "no folder ''"),
        ("folder:nowhere", "no folder 'nowhere'"),
        ("npz:nowhere.npz", "no file 'nowhere.npz'"),
        ("npz:", "no file ''"),
        ("folder:empty", "folder empty has no classes"),
        ("folder:hollow", "class folder hollow/b has no images"),
        ("folder:text", "cannot read image text/b/1.png"),
        ("folder:single", "class 'b' has 1 image"),
        ("folder:uneven", "class 'b' is in only one of uneven/train and uneven/test"),
        ("folder:half", "no folder half/test"),
        ("npz:garbage.npz", "cannot read garbage.npz"),
        ("npz:array.npz", "holds a single array"),
        ("imagenet_r", "imagenet-r.tar"),
    ],
)
def test_bad_sources_are_one_clear_line(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for name in ("hollow", "text", "single", "uneven/train", "uneven/test", "half/train"):
        write_images(tmp_path / name / "a", 2, 1)
    for name in ("empty", "hollow/b"):
        (tmp_path / name).mkdir()
    write_images(tmp_path / "text/b", 2, 1)
    (tmp_path / "text/b/1.png").write_text("not an image")
    write_images(tmp_path / "single/b", 1, 1)
    write_images(tmp_path / "uneven/train/b", 1, 1)
    (tmp_path / "garbage.npz").write_bytes(b"PK\x03\x04garbage")
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.arange(3))
    before = sorted(os.walk(tmp_path))
    with pytest.raises(UserError) as error:
        load_dataset(spec, 4)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(os.walk(tmp_path)) == before


# --- streams ---------------------------------------------------------------------------------------------------------


def test_slots_count_up_and_labels_follow_their_classes():
    data = toy()
    stream = class_incremental(data, tasks=3, seed=1)
    assert [task.index for task in stream] == [0, 1, 2]
    assert [task.slots for task in stream] == [(0, 1), (2, 3), (4, 5)]
    names = [name for task in stream for name in task.class_names]
    assert sorted(names) == sorted(data.class_names)
    for task in stream:
        assert task.y_train.dtype == task.y_test.dtype == np.int32
        assert (task.x_train.shape[0], task.x_test.shape[0]) == (8, 4)
        for x, y in ((task.x_train, task.y_train), (task.x_test, task.y_test)):
            assert [f"class {pixel}" for pixel in x[:, 0, 0, 0]] == [names[slot] for slot in y]
            assert set(y) == set(task.slots)


def test_class_order_follows_the_seed():
    def order(seed):
        return [name for task in class_incremental(toy(), 2, seed) for name in task.class_names]

    assert order(3) == order(3)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_one_task_holds_everything():
    (task,) = class_incremental(toy(), 1, 0)
    assert len(task.x_train) == 24


@pytest.mark.parametrize("tasks", [4, 0, -1, 12])
def test_tasks_must_divide_the_classes(tasks):
    with pytest.raises(UserError, match=f"6 classes cannot be split into {tasks} equal tasks.* 1, 2, 3, 6$"):
        class_incremental(toy(), tasks, 0)


def test_loading_digits_needs_no_tensorflow():
    code = "import sys, keras_cbpnet.data as d; d.load_dataset('digits', 8); assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
