"""What a data set must be, from arrays and from .npz files; resizing; the 80/20 split."""

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from keras_cbpnet.data import Dataset, load_dataset, resize_images
from keras_cbpnet.data.dataset import stratified_split
from keras_cbpnet.errors import UserError


def toy(classes=6, per_class=4, size=2):
    """A data set whose every image is filled with its class's number."""
    labels = np.repeat(np.arange(classes), per_class).astype(np.int64)
    images = np.broadcast_to(labels[:, None, None, None], (len(labels), size, size, 3)).astype(np.uint8)
    return Dataset(images, labels, images[::2], labels[::2], tuple(f"class {c}" for c in range(classes)))


def write_npz(path, **changes):
    data = toy()
    arrays = {name: getattr(data, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    arrays["class_names"] = np.array(data.class_names)
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return f"npz:{path}"


# --- resizing --------------------------------------------------------------------------------------------------------


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
        ({"y_test": None}, "lacks y_test: write x_train, y_train, x_test, y_test and class_names"),
        ({"x_train": toy().x_train.astype(np.float32)}, "x_train is float32"),
        ({"x_train": np.full((24, 2, 2, 3), np.nan)}, "x_train is float64 .*: write uint8 RGB"),
        ({"x_test": toy().x_test[..., :1]}, r"x_test is uint8 \[12, 2, 2, 1\]"),
        ({"x_test": toy(size=3).x_test}, "they must have one size"),
        ({"y_train": toy().y_train + 1}, "y_train contains 6, class_names has 6 names"),
        ({"y_train": toy().y_train - 1}, "y_train contains -1"),
        ({"y_train": toy().y_train.astype(np.float64)}, "y_train is float64"),
        ({"y_test": np.full(12, np.nan)}, "y_test is float64 .*: write one integer per image"),
        ({"y_train": toy().y_train[:-1]}, "for 24 images: write one integer per image"),
        ({"y_test": np.zeros(12, np.int64)}, "class 'class 1' has no test images"),
        ({"class_names": np.array([])}, "class_names is float64"),
        ({"class_names": np.array([], "U1")}, "class_names has 0 names"),
        ({"class_names": np.array(["a"] * 6)}, "bad.npz: class name 'a' appears more than once"),
        ({"class_names": np.array(["a", "b", "c", "d", "e", ""])}, "''"),
        ({"class_names": np.array([f"c{i}" for i in range(7)])}, "class 'c6' has no train images"),
        ({"class_names": np.array(["a"] * 6, object)}, "class_names holds Python objects"),
    ],
)
def test_bad_npz(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        load_dataset(write_npz(tmp_path / "bad.npz", **changes), 4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("npz:nowhere.npz", "no file 'nowhere.npz'"),
        ("npz:", "no file ''"),
        ("npz:garbage.npz", "data garbage.npz is not a readable .npz ("),
        ("npz:cut.npz", "data cut.npz is not a readable .npz ("),
        ("npz:array.npz", "data array.npz is a single array: give an .npz file"),
    ],
)
def test_unreadable_npz(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage.npz").write_bytes(b"PK\x03\x04garbage")
    write_npz(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-50])
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.arange(3))
    before = sorted(os.walk(tmp_path))
    with pytest.raises(UserError) as error:
        load_dataset(spec, 4)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(os.walk(tmp_path)) == before


# --- domains ---------------------------------------------------------------------------------------------------------

HALVES = np.arange(24) % 2  # two images of each class in each domain


def test_a_data_set_has_no_domains_unless_given():
    data = toy()
    assert (data.domain_names, data.domain_train, data.domain_test) == ((), None, None)


@pytest.mark.parametrize("domain_test", [None, np.arange(12) % 2])
def test_domains(domain_test):
    data = dataclasses.replace(toy(), domain_names=("day", "night"), domain_train=HALVES, domain_test=domain_test)
    assert data.domain_test is domain_test


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domain_train": None}, "2 domain names; give domain_train"),
        ({"domain_names": ()}, "0 domain names; give domain_train"),
        ({"domain_names": (), "domain_train": None}, "domain_test without domain_train"),
        ({"domain_names": ("day", "day")}, "domain name 'day' appears more than once"),
        ({"domain_names": ("day", "")}, "domain name '' must be one line of text"),
        ({"domain_train": HALVES[1:]}, r"domain_train has dtype int64 and shape \(23,\); 24 images need one"),
        ({"domain_train": HALVES.astype(np.int32)}, "domain_train has dtype int32"),
        ({"domain_train": HALVES * 2}, r"domain_train contains domain 2; 2 domains have numbers 0\.\.1"),
        ({"domain_test": np.zeros(12, np.int64)}, "domain 'night' has no test images"),
        ({"domain_train": np.where(np.arange(24) < 8, 0, HALVES)}, "'class 0' has no train images in domain 'night'"),
    ],
)
def test_bad_domains(changes, message):
    given = {"domain_names": ("day", "night"), "domain_train": HALVES, "domain_test": np.arange(12) % 2, **changes}
    with pytest.raises(UserError, match=message):
        dataclasses.replace(toy(), **given)
