"""Images that stay in their files: what an index gives, what is decoded when, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_cbpnet.data import images, open_dataset
from keras_cbpnet.data.images import ImageFiles
from keras_cbpnet.errors import UserError
from keras_cbpnet.training.features.cache import CachedFeatures


@pytest.fixture
def files(tmp_path):
    """Six images whose red is ten times their number."""
    found = [tmp_path / f"{index}.png" for index in range(6)]
    for index, file in enumerate(found):
        Image.new("RGB", (5, 7), (10 * index, 0, 0)).save(file)
    return found


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded, in turn."""
    names = []

    def read_image(file, *how, read=images.read_image):
        names.append(os.path.basename(file))
        return read(file, *how)

    monkeypatch.setattr(images, "read_image", read_image)
    return names


INDEX = {
    "a slice": slice(1, 4),
    "a step": slice(None, None, 2),
    "beyond the end": slice(4, 9),
    "rows": np.array([5, 0, 0, -1]),
    "a mask": np.array([True, False, False, True, False, True]),
    "nothing": np.array([], np.int64),
}


@pytest.mark.parametrize("kept", [0, 2**20])
@pytest.mark.parametrize("rows", INDEX.values(), ids=INDEX)
def test_they_are_indexed_like_an_array(files, rows, kept, monkeypatch):
    monkeypatch.setattr(images, "KEPT", kept)
    found = ImageFiles(files, (4, 3))
    array = np.zeros((6, 4, 3, 3), np.uint8)
    array[..., 0] = 10 * np.arange(6)[:, None, None]
    assert (len(found), found.shape, found.dtype, found.ndim) == (6, array.shape, array.dtype, array.ndim)
    for _ in range(2):
        np.testing.assert_array_equal(found[rows], array[rows])
    given = found[rows]
    given[:] = 1  # a copy
    np.testing.assert_array_equal(found[rows], array[rows])
    np.testing.assert_array_equal(found.subset(rows)[:], array[rows])


def test_what_is_not_asked_for_is_not_decoded(files, decoded):
    found = ImageFiles(files, 4)
    found.subset(np.array([1, 2]))
    assert decoded == []
    found[np.array([3, 1])]
    assert decoded == ["3.png", "1.png"]


def test_few_images_are_decoded_once_and_many_again(files, decoded, monkeypatch):
    found = ImageFiles(files, 4)
    for _ in range(3):
        found[1:3]
    assert decoded == ["1.png", "2.png"]
    decoded.clear()
    monkeypatch.setattr(images, "KEPT", 6 * 4 * 4 * 3 - 1)
    found = ImageFiles(files, 4)
    for _ in range(3):
        found[1:3]
    assert decoded == ["1.png", "2.png"] * 3


def test_a_check_reads_every_image_once_and_says_how_far_it_is(files, decoded, monkeypatch):
    monkeypatch.setattr(images, "KEPT", 0)
    monkeypatch.setattr(images, "LINE", 2)
    found, lines = ImageFiles(files, 4), []
    digest = found.check(lines.append)
    assert found.check(lines.append) == digest
    assert decoded == [file.name for file in files]
    assert lines == [f"{n} of 6 images checked" for n in (2, 4, 6)]


def test_the_digest_is_that_of_the_contents_in_their_order(files, tmp_path):
    digest = ImageFiles(files, 4).check()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    copies = [moved / f"copy of {file.name}" for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.write_bytes(file.read_bytes())
    assert ImageFiles(copies, 4).check() == digest
    assert ImageFiles(copies[::-1], 4).check() != digest
    assert ImageFiles(copies[:-1], 4).check() != digest
    copies[2].write_bytes(files[3].read_bytes())
    assert ImageFiles(copies, 4).check() != digest


def test_a_damaged_image_is_refused_by_the_check(files):
    files[4].write_bytes(files[4].read_bytes()[:-30])
    found = ImageFiles(files, 4)
    assert len(found[:4]) == 4
    for refuse in (found.check, lambda: found[4:]):
        with pytest.raises(UserError, match=r"image .*4\.png cannot be read \(.*\): replace or remove it$"):
            refuse()


def test_a_missing_image_is_refused_before_any_is_read(files, decoded):
    files[5].unlink()
    with pytest.raises(UserError, match=r"image .*5\.png is missing; unpack its archive again or put the file there"):
        ImageFiles(files, 4)
    assert decoded == []


def test_what_is_no_file_is_refused_before_any_is_read(files, tmp_path, decoded):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("/nonexistent/1.png")
    for name, line in {
        "pipe.png": "is not an image but a folder, device, pipe or socket; remove it",
        "link.png": "is a link to /nonexistent/1.png, which is not there; fetch it, or remove the link",
    }.items():
        with pytest.raises(UserError, match=f"{name} {line}"):
            ImageFiles([*files, tmp_path / name], 4)
    assert decoded == []


# A data set of files --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(files, tmp_path):
    """Two classes of three images each."""
    root = tmp_path / "classes"
    for index, file in enumerate(files):
        name = root / "ab"[index // 3] / file.name
        name.parent.mkdir(parents=True, exist_ok=True)
        file.rename(name)
    return root


def test_opening_a_folder_decodes_nothing(folder, decoded):
    data = open_dataset(f"folder:{folder}", 4)
    few = data.with_training_rows(np.array([0, 3]))
    assert decoded == []
    assert few.images("train", np.array([1]))[0, 0, 0, 0] // 30 == 1  # of class b
    assert len(decoded) == 1
    assert len(few.images("test", np.arange(2))) == 2


def test_the_check_of_a_data_set_covers_both_parts(folder):
    data, lines = open_dataset(f"folder:{folder}", 4), []
    data.check(lines.append)
    assert lines == []  # few images
    for part in (data.x_train, data.x_test):
        file = Path(part.files[0])
        content = file.read_bytes()
        file.write_bytes(content[:-30])
        with pytest.raises(UserError, match=file.name):
            open_dataset(f"folder:{folder}", 4).check()
        file.write_bytes(content)


def test_features_of_files_are_cached_by_their_contents(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path / "cache"))
    asked = []

    def rows_of(root, size):
        data = open_dataset(f"folder:{root}", size)

        def forward(part, rows):
            asked.append(part)
            return data.images(part, rows).reshape(len(rows), -1)[:, :1].astype(np.float32)

        return CachedFeatures(data, "model", 1, forward).rows("train", np.arange(4))

    first = rows_of(folder, 4)
    moved = folder.rename(tmp_path / "moved")
    np.testing.assert_array_equal(rows_of(moved, 4), first)
    assert asked == ["train"]
    rows_of(moved, 5)
    assert asked == ["train"] * 2
    changed = open_dataset(f"folder:{moved}", 4).x_train.files[0]
    os.unlink(changed)
    Image.new("RGB", (5, 7), (200, 0, 0)).save(changed)
    assert rows_of(moved, 4)[0] == 200
    assert asked == ["train"] * 3
