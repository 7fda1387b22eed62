"""Folders of images as people really have them: what counts, which folders are classes, what is refused."""

import os

import pytest

from firmware_host.bundle import DeviceError
from firmware_host.shared.folders import class_files, describe, find_layout, image_files, listed

NFC, NFD = "caf\u00e9", "cafe\u0301"


def fill(root, *paths):
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


def images(folder):
    return [os.fspath(path.relative_to(folder)) for path in image_files(folder)]


# What other programs leave behind -----------------------------------------------------------------------------------

LITTER = [
    *("Thumbs.db", "ehthumbs.db", "Desktop.ini", "Icon\r", "Icon\uf00d", ".DS_Store", "._1.jpg", "Picasa.ini"),
    *("1.jpg~", "1.jpg.bak", "IMG_1.AAE", "1.xmp", ".thumbnails/1.jpg", "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg"),
    *("__MACOSX/._1.jpg", "lost+found/1.jpg", "$RECYCLE.BIN/1.jpg", "#recycle/1.jpg", ".Trash-1000/files/1.jpg"),
    *("System Volume Information/1.jpg", "@__thumb/1.jpg", "_vti_cnf/1.jpg", ".AppleDouble/1.jpg"),
]


@pytest.mark.parametrize("name", LITTER)
def test_what_other_programs_leave_is_passed_over(name, tmp_path):
    fill(tmp_path, "cat/1.jpg", f"cat/{name}", name)
    assert images(tmp_path) == ["cat/1.jpg"]
    assert list(class_files(tmp_path)) == ["cat"]


def test_what_only_looks_like_litter_counts(tmp_path):
    names = ["#1.jpg", "@home/1.jpg", "Thumbs.db.png", "icon", "lost/1.jpg", "macosx/1.jpg"]
    fill(tmp_path, *names)
    assert images(tmp_path) == names


def test_a_photo_that_is_still_in_icloud_is_refused(tmp_path):
    fill(tmp_path, "cat/.IMG_1.jpg.icloud")
    with pytest.raises(DeviceError, match=r"IMG_1\.jpg\.icloud is a placeholder: download the photo from iCloud first"):
        class_files(tmp_path)


# What cannot be listed ----------------------------------------------------------------------------------------------


def test_links_are_followed_once_and_a_broken_one_is_not_lost(tmp_path):
    root = tmp_path / "root"
    fill(root, "a/1.jpg")
    fill(tmp_path, "elsewhere/2.jpg")
    (root / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "again").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "circle").symlink_to(root)
    (root / "a" / "self").symlink_to("self")
    (root / "a" / "gone.jpg").symlink_to("/nonexistent/3.jpg")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert images(root / "a") == ["1.jpg", "again/2.jpg", "gone.jpg", "self"]
    assert [len(files) for files in class_files(root).values()] == [4, 1]


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    fill(tmp_path, "a/1.jpg", "a/deep/2.jpg")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DeviceError, match=r"folder .*deep cannot be read \(Permission denied\): check that it may be"):
        list(image_files(tmp_path / "a"))
    assert listed(tmp_path / "a").folders == ["deep"]


# Layouts ------------------------------------------------------------------------------------------------------------

FOUND = {
    "classes": (["cat/1.jpg", "dog/1.jpg"], "", {}),
    "one class": (["cat/1.jpg"], "", {}),
    "folders within classes": (["cat/a/1.jpg", "cat/b/1.jpg", "dog/1.jpg"], "", {}),
    "parts": (["train/cat/1.jpg", "test/cat/1.jpg"], "", {"train": "train", "test": "test"}),
    "parts in capitals": (["Train/cat/1.jpg", "TEST/cat/1.jpg"], "", {"train": "Train", "test": "TEST"}),
    "other names": (["training/cat/1.jpg", "Testing/cat/1.jpg"], "", {"train": "training", "test": "Testing"}),
    "validation": (["train/cat/1.jpg", "val/cat/1.jpg"], "", {"train": "train", "test": "val"}),
    "one part": (["train/cat/1.jpg"], "", {"train": "train"}),
    "a wrapper": (["photos/train/cat/1.jpg", "photos/test/cat/1.jpg"], "photos", {"train": "train", "test": "test"}),
    "a wrapper and litter": (
        ["photos/train/cat/1.jpg", "photos/test/cat/1.jpg", "__MACOSX/photos/._1"],
        "photos",
        {"train": "train", "test": "test"},
    ),
    "a class called train": (["train/1.jpg", "car/1.jpg"], "", {}),
    "classes with a part in their names": (["train_station/1.jpg", "test_tube/1.jpg"], "", {}),
    "all with folders": (["train station/a/1.jpg", "harbour/b/1.jpg"], "", {}),
    "with folders": (["train/1.jpg", "train/2024/1.jpg", "car/1.jpg"], "", {}),
}


@pytest.mark.parametrize(("paths", "root", "parts"), FOUND.values(), ids=FOUND)
def test_a_layout_is_recognised(paths, root, parts, tmp_path):
    fill(tmp_path, *paths)
    layout = find_layout(tmp_path)
    assert layout.root == tmp_path / root
    assert layout.parts == {part: tmp_path / root / name for part, name in parts.items()}
    assert layout.notes == ()


REFUSED = {
    "a wrapper of classes": (["photos/cat/1.jpg", "photos/dog/1.jpg"], "one folder, photos, and that holds folders"),
    "two wrappers": (["a/photos/cat/1.jpg"], "one folder, a, and that holds folders"),
    "a wrapper in the parts": (["train/x/cat/1.jpg", "train/x/dog/1.jpg", "test/x/cat/1.jpg"], "one folder, x, and"),
    "a leftover split": (["train/cat/1.jpg", "cat/1.jpg", "dog/1.jpg"], r"train looks like a part .* \(cat, dog\)"),
    "a leftover validation": (["val/cat/1.jpg", "cat/1.jpg"], "val looks like a part of the data, but other folders"),
    "parts without classes": (["train/1.jpg", "test/1.jpg"], "holds images and no class folders"),
    "images beside the classes of a part": (["train/cat/1.jpg", "train/2.jpg", "test/cat/1.jpg"], "and not only class"),
    "one part twice": (
        ["train/cat/1.jpg", "Train/cat/1.jpg", "test/cat/1.jpg"],
        "Train and train, two folders for one",
    ),
    "parts of another name": (["heute/cat/1.jpg", "heute/dog/1.jpg", "morgen/cat/1.jpg", "morgen/dog/1.jpg"], "same f"),
    "parts without labels": (["train/cat/1.jpg", "test/1.jpg"], "test looks like a part .* and not only class folders"),
    "parts by longer names": (
        ["seg_train/seg_train/cat/1.jpg", "seg_test/seg_test/cat/1.jpg"],
        "seg_test, seg_train of .* look like the parts of a split: name them train and test",
    ),
    "a split of each class": (
        ["cat/train/1.jpg", "cat/test/1.jpg", "dog/train/1.jpg", "dog/test/1.jpg"],
        r"cat, dog of .* all hold the same folders \(test, train\)",
    ),
}


@pytest.mark.parametrize(("paths", "message"), REFUSED.values(), ids=REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(paths, message, tmp_path):
    fill(tmp_path, *paths)
    with pytest.raises(DeviceError, match=message) as error:
        find_layout(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_not_used_is_said(tmp_path):
    fill(tmp_path, "train/cat/1.jpg", "test/cat/1.jpg", "val/cat/1.jpg", "README.md")
    assert find_layout(tmp_path).notes == (
        "1 file beside the folders not used (README.md)",
        f"{tmp_path / 'val'} is not used",
    )
    line = describe("data x", {"cat": 3, "dog": 1}, ["something is not used"])
    assert line == "data x: 4 images of 2 classes (cat, dog); something is not used"
    assert describe("x", {str(i): 1 for i in range(20)}).endswith("(0, 1, 2, 3, 4, 5, 6, 7 and 12 more)")


def test_domains_are_folders_of_folders(tmp_path):
    fill(tmp_path, "day/cat/1.jpg", "day/dog/1.jpg", "night/cat/1.jpg", "night/dog/1.jpg")
    assert find_layout(tmp_path, levels=2).parts == {}


# Classes ------------------------------------------------------------------------------------------------------------


def test_one_name_in_two_forms_is_one_class(tmp_path):
    fill(tmp_path, f"{NFC}/1.jpg", f"{NFD}/2.jpg", "b/1.jpg")
    files = class_files(tmp_path)
    assert list(files) == ["b", NFC]
    assert sorted(os.path.basename(file) for file in files[NFC]) == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    ("names", "message"), [(("Cat", "cat"), "hardly be told apart"), ((b"gr\xfcn",), r"name 'gr\\udcfcn' must be")]
)
def test_folders_that_name_no_class_are_refused(names, message, tmp_path):
    for name in names:
        os.mkdir(os.path.join(os.fsencode(tmp_path), os.fsencode(name)))
    with pytest.raises(DeviceError, match=message):
        class_files(tmp_path)
