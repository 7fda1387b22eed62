"""Image folders, of classes and of domains; the digits, which need no files; specs that name nothing."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from keras_cbpnet.data import load_dataset
from keras_cbpnet.errors import UserError


def write_images(folder, count, colour, size=(5, 7)):
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", size, (colour, index, 0)).save(folder / f"{index}.png")


def write_domains(root, domains=("day", "night"), classes=("cat", "dog"), count=5):
    """Images whose red is ten times the domain plus the class."""
    for d, domain in enumerate(domains):
        for c, name in enumerate(classes):
            write_images(root / domain / name, count, 10 * d + c)


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


def test_loading_digits_needs_no_tensorflow():
    code = "import sys, keras_cbpnet.data as d; d.load_dataset('digits', 8); assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- classes ---------------------------------------------------------------------------------------------------------


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


# --- domains ---------------------------------------------------------------------------------------------------------


def test_domains_are_folders_of_classes(tmp_path):
    write_domains(tmp_path)
    data = load_dataset(f"domains:{tmp_path}", 4)
    assert data.class_names == ("cat", "dog")
    assert data.domain_names == ("day", "night")
    assert data.domain_train.tolist() == [0] * 8 + [1] * 8
    assert data.y_train.tolist() == [0, 0, 0, 0, 1, 1, 1, 1] * 2
    assert data.domain_test.tolist() == [0, 0, 1, 1]
    assert data.y_test.tolist() == [0, 1, 0, 1]
    for x, y, d in ((data.x_train, data.y_train, data.domain_train), (data.x_test, data.y_test, data.domain_test)):
        np.testing.assert_array_equal(x[:, 0, 0, 0], 10 * d + y)
    greens = np.concatenate([data.x_train[:4, 0, 0, 1], data.x_test[:1, 0, 0, 1]])  # image numbers of day/cat
    assert sorted(greens) == [0, 1, 2, 3, 4]


def test_a_domain_is_split_the_same_way_when_another_is_added(tmp_path):
    write_domains(tmp_path)
    before = load_dataset(f"domains:{tmp_path}", 4, seed=0)
    write_domains(tmp_path, ("dawn",))
    after = load_dataset(f"domains:{tmp_path}", 4, seed=5)
    assert after.domain_names == ("dawn", "day", "night")
    np.testing.assert_array_equal(after.x_test[2:], before.x_test)


def test_domains_with_train_and_test(tmp_path):
    write_domains(tmp_path / "train", count=2)
    write_domains(tmp_path / "test", count=1)
    data = load_dataset(f"domains:{tmp_path}", 4)
    assert data.domain_train.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert data.domain_test.tolist() == [0, 0, 1, 1]
    assert data.x_train[:, 0, 0, :2].tolist() == [[c, i] for c in (0, 1, 10, 11) for i in (0, 1)]


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "mnist",
            "unknown data set 'mnist'; choose one of digits, cifar100, imagenet_r, cub200, core50, folder:PATH, "
            "domains:PATH, npz:PATH",
        ),
        ("zip:a.zip", "unknown data set 'zip:a.zip'"),
        ("hollow", "unknown data set 'hollow'; give folder:hollow if that is what you mean"),
        ("a.npz", "unknown data set 'a.npz'; give npz:a.npz if that is what you mean"),
        ("folder:", "no folder ''"),
        ("folder:nowhere", "no folder 'nowhere'"),
        ("folder:empty", "folder empty has no classes"),
        ("folder:hollow", "class folder hollow/b has no images"),
        ("folder:text", "text/b/1.png is not an image: give a file that Pillow reads"),
        ("folder:cut", "image cut/b/0.png cannot be read ("),
        ("folder:single", "class 'b' has 1 image"),
        ("folder:uneven", "class 'b' is in only one of uneven/train and uneven/test"),
        ("folder:half", "no folder half/test"),
        ("domains:", "no folder ''; give an existing folder with one folder per domain"),
        ("domains:empty", "folder empty has no domains"),
        ("domains:text", "folder text/a has no classes"),
        ("domains:odd", "class 'cow' is in only one of odd/day and odd/night; all domains need the same classes"),
        ("domains:few", "class 'day/cat' has 1 image"),
        ("domains:lost", "domain 'night' is in only one of lost/train and lost/test"),
        ("domains:half", "no folder half/test"),
    ],
)
def test_bad_folders_are_one_clear_line(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    for name in ("hollow", "text", "cut", "single", "uneven/train", "uneven/test", "half/train"):
        write_images(tmp_path / name / "a", 2, 1)
    for name in ("empty", "hollow/b"):
        (tmp_path / name).mkdir()
    write_images(tmp_path / "text/b", 2, 1)
    (tmp_path / "text/b/1.png").write_text("not an image")
    write_images(tmp_path / "cut/b", 2, 1, size=(64, 64))
    (tmp_path / "cut/b/0.png").write_bytes((tmp_path / "cut/b/1.png").read_bytes()[:-30])
    write_images(tmp_path / "single/b", 1, 1)
    write_images(tmp_path / "uneven/train/b", 1, 1)
    write_domains(tmp_path / "odd", ("day",))
    write_domains(tmp_path / "odd", ("night",), ("cat", "cow", "dog"))
    write_domains(tmp_path / "few", count=1)
    write_domains(tmp_path / "lost/train")
    write_domains(tmp_path / "lost/test", ("day",))
    before = sorted(os.walk(tmp_path))
    with pytest.raises(UserError) as error:
        load_dataset(spec, 4)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(os.walk(tmp_path)) == before


def test_an_archive_in_place_of_a_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a/1.png", "")
    for source in ("folder", "domains"):
        with pytest.raises(UserError, match=r"photos.zip is a zip archive; unpack it and give what was in it"):
            load_dataset(f"{source}:{tmp_path / 'photos.zip'}", 4)
