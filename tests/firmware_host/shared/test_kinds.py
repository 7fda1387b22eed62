"""Files that are something else than an image, an .npz or a folder: named, with what helps."""

import gzip
import tarfile
import zipfile

import numpy as np
import pytest

from firmware_host.bundle import DeviceError
from firmware_host.images import load_image
from firmware_host.images.labelled import read_data
from firmware_host.shared.kinds import kind_of_file

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
CONTENTS = {
    "lfs.jpg": (LFS, "a pointer of Git LFS in place of the file: fetch the file with git lfs pull"),
    "page.jpg": (b"\n<!DOCTYPE html><p>403", "a web page in place of the file: copy the address of the download"),
    "empty.jpg": (b"", "an empty file: fetch or copy it again"),
    "iphone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo, as iPhones take them: save it as JPEG"),
    "clip.jpg": (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video: give --source video:FILE, or save its frames"),
    "drawing.png": (b'<?xml version="1.0"?>\n<svg>', "an SVG drawing: save it as PNG"),
    "page.png": (b"%PDF-1.7", "a PDF document: save its pages"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_no_image_is_named(name, tmp_path):
    content, said = CONTENTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DeviceError) as error:
        load_image(tmp_path / name, (4, 4))
    assert str(error.value).startswith(f"{tmp_path / name} is not an image but {said}")


def test_an_image_of_a_format_that_this_pillow_lacks(tmp_path, monkeypatch):
    from PIL import Image

    Image.init()
    (tmp_path / "a.jpg").write_bytes(b"RIFF\x10\0\0\0WEBPVP8 ")
    monkeypatch.delitem(Image.OPEN, "WEBP", raising=False)
    with pytest.raises(DeviceError, match=r"a.jpg is WEBP, which Pillow .* does not read here: save it as JPEG or PNG"):
        load_image(tmp_path / "a.jpg", (4, 4))
    (tmp_path / "a.jpg").write_bytes(b"text")
    with pytest.raises(DeviceError, match=r"a.jpg is not an image: give a file that Pillow reads as JPEG") as error:
        load_image(tmp_path / "a.jpg", (4, 4))
    assert "WEBP" not in str(error.value)


def test_archives_in_place_of_data(tmp_path):
    (tmp_path / "a.txt").write_text("1")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "a.txt", "a.txt")
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(tmp_path / "a.txt", "a.txt")
    (tmp_path / "photos.tar.gz").write_bytes(gzip.compress(b"1"))
    for name, what in (("zip", "a zip archive"), ("tar", "a tar archive"), ("tar.gz", "compressed by gzip")):
        with pytest.raises(DeviceError, match=f"photos.{name} is {what}: unpack it and give what was in it"):
            read_data(str(tmp_path / f"photos.{name}"), "train")
    assert kind_of_file(tmp_path / "a.txt") is None
    assert kind_of_file(tmp_path) is None
    assert kind_of_file(tmp_path / "none") is None


def test_npz_that_is_something_else(tmp_path):
    (tmp_path / "lfs.npz").write_bytes(LFS)
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    x, y = np.zeros((2, 4, 4, 3), np.uint8), np.arange(2)
    np.savez(tmp_path / "objects.npz", x_train=x, y_train=y, class_names=np.array(["a", "b"], object))
    for name, said in (
        ("lfs.npz", "is a pointer of Git LFS in place of the file: fetch the file with git lfs pull"),
        ("one.npz", "is a single array: give an .npz file of numpy.savez"),
        ("objects.npz", "class_names holds Python objects: write .* class_names as numpy.array.names, dtype=str"),
        (".", "is a folder: give it without npz:"),
    ):
        with pytest.raises(DeviceError, match=said):
            read_data(f"npz:{tmp_path / name}", "train")
