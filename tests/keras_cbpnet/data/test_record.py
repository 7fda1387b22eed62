"""The data behind a run: what is recorded, what is held to it, and what is refused."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_cbpnet.data import open_dataset
from keras_cbpnet.data.record import RECORD, WHITENING, check_data, open_data_of_run, record_of
from keras_cbpnet.errors import UserError

CLASSES = ("bars", "cross", "disc")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three classes of five images, all different; the working directory is that of the data."""
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(CLASSES):
        for index in range(5):
            write(tmp_path / "photos" / name / f"{index}.png", (label, index, 0))
    return tmp_path / "photos"


def write(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 6), colour).save(path)


@pytest.fixture
def run(photos, tmp_path):
    """A run folder that says it was trained on the photos."""
    folder = tmp_path / "run"
    folder.mkdir()
    record = record_of("folder:photos", open_dataset("folder:photos", 4))
    (folder / RECORD).write_text(json.dumps(record))
    return folder


def reopened(run):
    return open_data_of_run(run, "folder:photos", 4, 0)


def test_the_record_names_classes_images_and_the_place(run, photos):
    record = json.loads((run / RECORD).read_text())
    assert record["source"] == f"folder:{photos}"
    assert list(record["classes"]) == list(CLASSES)
    assert [(each["train"], each["test"]) for each in record["classes"].values()] == [(4, 1)] * 3
    assert len({each["sha256"] for each in record["classes"].values()}) == 3


def test_the_same_data_are_found_from_anywhere(run, photos, tmp_path, monkeypatch):
    assert reopened(run).class_names == CLASSES
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert reopened(run).class_names == CLASSES  # by the absolute path
    write(elsewhere / "photos" / "other" / "1.png", (9, 9, 9))
    assert reopened(run).class_names == CLASSES  # not the folder of that name here


def test_data_that_moved_with_the_run_are_found_by_the_path_as_it_was_given(run, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move(tmp_path / "photos", moved / "photos")
    with pytest.raises(
        UserError, match=r"the data that .*run was trained on, folder:/.*photos, are not there; put them"
    ):
        reopened(run)
    monkeypatch.chdir(moved)
    assert reopened(run).class_names == CLASSES


def test_a_touched_or_copied_file_is_the_same(run, photos):
    for file in photos.rglob("*.png"):
        os.utime(file, (0, 0))
    (photos / "disc" / ".DS_Store").write_text("")
    assert check_data(run, "folder:photos", open_dataset("folder:photos", 4))


def renamed(photos):
    (photos / "cross").rename(photos / "zcross")


def added(photos):
    shutil.copytree(photos / "disc", photos / "aaa")
    shutil.copytree(photos / "disc", photos / "aab")


def removed(photos):
    shutil.rmtree(photos / "cross")


def with_one_more_image(photos):
    write(photos / "disc" / "9.png", (7, 7, 7))


def with_one_image_changed(photos):
    write(photos / "disc" / "3.png", (7, 7, 7))


def swapped(photos):
    for old, new in (("cross", "x"), ("disc", "cross"), ("x", "disc")):
        (photos / old).rename(photos / new)


CHANGES = [
    (renamed, "it is without 'cross' and with 'zcross'"),
    (added, "it is with 'aaa', 'aab'"),
    (removed, "it is without 'cross'"),
    (with_one_more_image, r"it has other images of 'disc' \(4 \+ 1 images then, 5 \+ 1 now\)|5 images now|4 \+ 2 now"),
    (with_one_image_changed, "it has other images of 'disc'; put the data back as they were, or train again into"),
    (swapped, "it has other images of 'cross' and of 1 more classes"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_other_data_are_refused(change, message, run, photos):
    change(photos)
    for refuse in (
        lambda: reopened(run),
        lambda: check_data(run, "folder:photos", open_dataset("folder:photos", 4)),
    ):
        with pytest.raises(UserError, match=rf"photos is not what .*run was trained on: .*(?:{message})") as error:
            refuse()
        assert "\n" not in str(error.value)


def test_a_run_of_an_older_version_is_one_line_of_warning(photos, tmp_path):
    (tmp_path / "old").mkdir()
    lines = []
    assert open_data_of_run(tmp_path / "old", "folder:photos", 4, 0, lines.append).class_names == CLASSES
    (line,) = lines
    assert line.startswith(f"warning: {tmp_path / 'old'} is of an older version and does not say which images")
    assert not check_data(tmp_path / "old", "folder:photos", open_dataset("folder:photos", 4))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"source": "digits", "classes": {"a": 1}}', "\x00"])
def test_a_damaged_record_is_one_line(text, run):
    (run / RECORD).write_text(text)
    with pytest.raises(UserError, match=r"data.json is damaged \(.*\); train again into another folder"):
        reopened(run)


def test_arrays_and_domains_are_told_apart_too(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (8, 4, 4, 3), np.uint8), np.arange(8) % 2
    for name, images in {"a": x, "b": np.where(np.arange(8)[:, None, None, None] == 3, 255 - x, x)}.items():
        np.savez(tmp_path / f"{name}.npz", x_train=images, y_train=y, x_test=x, y_test=y, class_names=["p", "q"])
    a, b = (record_of("npz:x", open_dataset(f"npz:{tmp_path / name}.npz", 4))["classes"] for name in "ab")
    assert a["p"] == b["p"]
    assert a["q"]["sha256"] != b["q"]["sha256"]
    for d, domain in enumerate(("day", "night")):
        for index in range(4):
            write(tmp_path / "d" / domain / "cat" / f"{index}.png", (d, index, 0))
    before = record_of("domains:d", open_dataset(f"domains:{tmp_path / 'd'}", 4))
    (tmp_path / "d" / "day").rename(tmp_path / "d" / "x")
    (tmp_path / "d" / "night").rename(tmp_path / "d" / "y")
    after = record_of("domains:d", open_dataset(f"domains:{tmp_path / 'd'}", 4))
    assert (before["domains"], after["domains"]) == (["day", "night"], ["x", "y"])
    assert record_of("digits", open_dataset("digits", 8))["source"] == "digits"


def test_the_data_that_whiten_are_held_to_the_record_too(run, photos, tmp_path):
    other = shutil.copytree(photos, tmp_path / "other")
    data = open_dataset("folder:other", 4)
    assert not check_data(run, "folder:other", data, whitening=True)  # a run of an older version
    record = json.loads((run / RECORD).read_text())
    (run / RECORD).write_text(json.dumps({**record, WHITENING: record_of("folder:other", data)}))
    assert check_data(run, "folder:other", data, whitening=True)
    with_one_image_changed(other)
    with pytest.raises(
        UserError, match=r"folder:other is not what .*run whitened its features by: it has other images"
    ):
        check_data(run, "folder:other", open_dataset("folder:other", 4), whitening=True)
    assert check_data(run, "folder:photos", open_dataset("folder:photos", 4))
    (run / RECORD).write_text(json.dumps({**record, WHITENING: {"source": "x"}}))
    with pytest.raises(UserError, match=r"data.json is damaged"):
        check_data(run, "folder:photos", data)
