"""Data sets that are downloaded, each on a small copy in its own layout on disk; nothing here has a network."""

import dataclasses
import hashlib
import inspect
import io
import os
import pickle
import tarfile
import urllib.error

import numpy as np
import pytest
from PIL import Image

from keras_cbpnet.data import cifar100, download, load_dataset
from keras_cbpnet.errors import UserError


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The folder Keras keeps data sets in, and no network."""

    def no_network(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(download.urllib.request, "urlopen", no_network)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    return tmp_path / "datasets"


def write_text(file, *lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def refused(spec):
    """The one line a source ends with, which changes nothing on disk."""
    folder = os.environ["KERAS_HOME"]
    before = sorted(os.walk(folder))
    with pytest.raises(UserError) as error:
        load_dataset(spec, 4)
    assert "\n" not in str(error.value)
    assert sorted(os.walk(folder)) == before
    return str(error.value)


@pytest.mark.parametrize(
    ("spec", "folder", "url"),
    [
        ("imagenet_r", "imagenet-r", "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar"),
        ("cub200", "CUB_200_2011", "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"),
        (
            "core50",
            "core50/core50_128x128",
            "http://bias.csr.unibo.it/maltoni/download/core50/core50_128x128.zip",
        ),
    ],
)
def test_a_missing_download_names_url_and_folder(datasets, spec, folder, url):
    message = refused(spec)
    assert (
        f"is not in {datasets / folder} and cannot be downloaded (no network); try again with a connection" in message
    )
    assert message.endswith(f", or download {url} elsewhere and unpack it in {(datasets / folder).parent}")


# --- CIFAR-100 -------------------------------------------------------------------------------------------------------


@pytest.fixture
def keras_datasets(datasets, monkeypatch):
    """Keras looking into `datasets`, without its checksum."""
    from keras.src.datasets import cifar100 as keras_cifar100
    from keras.src.utils import file_utils

    def get_file(**arguments):
        return file_utils.get_file(**{**arguments, "cache_dir": datasets.parent, "file_hash": None})

    monkeypatch.setattr(keras_cifar100, "get_file", get_file)
    return datasets


def cifar100_archive():
    """cifar-100-python.tar.gz: pickled dictionaries of planar images, here one per class, filled with its number."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for part in ("train", "test"):
            fine = list(range(99, -1, -1))
            planes = np.repeat(np.array([[label, 1, 2] for label in fine], np.uint8), 32 * 32, axis=1)
            contents = pickle.dumps(
                {
                    b"filenames": [b"image.png"] * 100,
                    b"batch_label": b"batch 1 of 1",
                    b"fine_labels": fine,
                    b"coarse_labels": [0] * 100,
                    b"data": planes,
                },
                protocol=3,
            )
            member = tarfile.TarInfo(f"cifar-100-python/{part}")
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return packed.getvalue()


def test_cifar100_is_read_from_the_archive_that_keras_keeps(keras_datasets, monkeypatch):
    archive = cifar100_archive()
    (keras_datasets / "cifar-100-python-target_archive").write_bytes(archive)
    known = dataclasses.replace(cifar100.ARCHIVE, digest=hashlib.sha256(archive).hexdigest())
    monkeypatch.setattr(cifar100, "ARCHIVE", known)
    data = load_dataset("cifar100", 32)
    assert data.class_names == tuple(sorted(data.class_names))
    assert data.y_train.tolist() == data.y_test.tolist() == list(range(99, -1, -1))
    assert data.x_train.shape == data.x_test.shape == (100, 32, 32, 3)
    assert data.x_train[:, 31, 0].tolist() == [[label, 1, 2] for label in range(99, -1, -1)]


def test_cifar100_has_the_checksum_of_keras(keras_datasets):
    from keras.src.datasets import cifar100 as keras_cifar100

    assert f'"{cifar100.ARCHIVE.digest}"' in inspect.getsource(keras_cifar100)


def test_cifar100_offline_names_the_file_to_put(keras_datasets):
    archive = keras_datasets / "cifar-100-python-target_archive"
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    assert (
        f"(no network); try again with a connection, or download {url} elsewhere and save it as {archive}"
        in refused("cifar100")
    )


def test_a_damaged_cifar100_archive_is_left_alone(datasets):
    archive = datasets / "cifar-100-python-target_archive"
    archive.write_bytes(cifar100_archive()[:-100])
    size = archive.stat().st_size
    assert f"{archive} is damaged" in refused("cifar100")
    assert archive.stat().st_size == size


# --- ImageNet-R ------------------------------------------------------------------------------------------------------


@pytest.fixture
def imagenet_r(datasets):
    root = datasets / "imagenet-r"
    write_text(root / "README.txt", "ImageNet-R(endition)", "n01443537 goldfish", "n01484850 great_white_shark")
    for label in range(200):
        folder = root / f"n{1443537 + label:08d}"
        folder.mkdir()
        for index in range(10 if label == 0 else 2):
            grey = label if index % 2 else label + 3
            Image.new("RGB", (9, 6), (grey,) * 3).save(folder / f"{'art' if index % 2 else 'sketch'}_{index}.jpg")
    return root


def test_imagenet_r(imagenet_r):
    data = load_dataset("imagenet_r", 4, seed=0)
    assert len(data.class_names) == 200
    assert data.class_names[:2] == ("n01443537", "n01443538")
    assert np.bincount(data.y_train).tolist() == [8] + [1] * 199
    assert np.bincount(data.y_test).tolist() == [2] + [1] * 199
    assert (abs(data.x_test[:, 0, 0, 0] - data.y_test) <= 4).all()
    assert not np.array_equal(data.x_test, load_dataset("imagenet_r", 4, seed=1).x_test)


def test_imagenet_r_unpacked_in_part(imagenet_r):
    (imagenet_r / "n01443538").rename(imagenet_r.parent / "elsewhere")
    assert "has 199 class folders, ImageNet-R has 200" in refused("imagenet_r")


# --- CUB-200-2011 ----------------------------------------------------------------------------------------------------

BIRDS = (
    "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
    "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg",
    "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg",
    "002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg",
    "002.Laysan_Albatross/Laysan_Albatross_0082_524.jpg",
)


@pytest.fixture
def cub200(datasets):
    root = datasets / "CUB_200_2011"
    write_text(root / "classes.txt", "1 001.Black_footed_Albatross", "2 002.Laysan_Albatross")
    write_text(root / "images.txt", *(f"{number} {name}" for number, name in enumerate(BIRDS, 1)))
    write_text(root / "image_class_labels.txt", "1 1", "2 1", "3 2", "4 2", "5 2")
    write_text(root / "train_test_split.txt", "1 0", "2 1", "3 1", "4 0", "5 1")
    write_text(root / "bounding_boxes.txt", "1 60.0 27.0 325.0 304.0")
    for number, name in enumerate(BIRDS, 1):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if number == 3 else "RGB", (8, 8), 20 * number if number == 3 else (20 * number,) * 3).save(
            root / "images" / name
        )
    return root


def test_cub200_has_the_official_split_and_names(cub200):
    data = load_dataset("cub200", 4)
    assert data.class_names == ("Black_footed_Albatross", "Laysan_Albatross")
    assert data.y_train.tolist() == [0, 1, 1]
    assert data.y_test.tolist() == [0, 1]
    assert data.x_train[:, 0, 0].tolist() == [[40] * 3, [60] * 3, [100] * 3]
    assert data.x_test[:, 3, 3].tolist() == [[20] * 3, [80] * 3]
    assert data.domain_names == ()


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("classes.txt", [], "classes.txt is empty"),
        ("images.txt", ["1"], "has the line '1', not a number and a value"),
        ("image_class_labels.txt", ["1 1", "2 1", "3 2", "4 3", "5 2"], "image_class_labels.txt says 3 of image 4"),
        ("train_test_split.txt", ["1 0", "2 1", "3 1", "4 0"], "train_test_split.txt says None of image 5"),
        ("train_test_split.txt", ["1 1", "2 1", "3 1", "4 0", "5 1"], "'Black_footed_Albatross' has no test images"),
        ("images/002.Laysan_Albatross/Laysan_Albatross_0082_524.jpg", ["text"], "0082_524.jpg is not an image"),
    ],
)
def test_damaged_cub200(cub200, file, lines, message):
    write_text(cub200 / file, *lines)
    assert message in refused("cub200")


@pytest.mark.parametrize("file", ["train_test_split.txt", f"images/{BIRDS[3]}"])
def test_incomplete_cub200(cub200, file):
    (cub200 / file).unlink()
    message = refused("cub200")
    assert f"{cub200 / file}" in message
    assert "missing" in message
