"""Files that are something else than their users take them for: what each is, and what helps."""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["START", "ZIP", "Kind", "archive", "kind_of", "kind_of_file"]

START = 512  # bytes that are looked at


class Kind(NamedTuple):
    """What a file is, a phrase after "is", and what helps, an imperative."""

    what: str
    remedy: str


UNPACK = "unpack it and give what was in it"
EMPTY = Kind("an empty file", "fetch or copy it again")
WEB_PAGE = Kind("a web page in place of the file", "copy the address of the download itself and fetch it again")
ZIP = Kind("a zip archive", UNPACK)
TAR = Kind("a tar archive", UNPACK)
VIDEO = Kind("a video", "give --source video:FILE, or save its frames as JPEG")
HEIC = Kind("a HEIC photo, as iPhones take them", "save it as JPEG")
STARTS = (
    (b"version https://git-lfs", Kind("a pointer of Git LFS in place of the file", "fetch the file with git lfs pull")),
    (b"\x93NUMPY", Kind("a single array", "give an .npz file of numpy.savez with every array under its name")),
    (b"PK\x03\x04", ZIP),
    (b"\x1f\x8b", Kind("compressed by gzip", UNPACK)),
    (b"BZh", Kind("compressed by bzip2", UNPACK)),
    (b"\xfd7zXZ", Kind("compressed by xz", UNPACK)),
    (b"(\xb5/\xfd", Kind("compressed by zstd", UNPACK)),
    (b"7z\xbc\xaf", Kind("a 7z archive", UNPACK)),
    (b"Rar!", Kind("a RAR archive", UNPACK)),
    (b"%PDF", Kind("a PDF document", "save its pages as JPEG or PNG")),
    (b"8BPS", Kind("a Photoshop document", "save it as JPEG or PNG")),
    (b"\xff\x0a", Kind("a JPEG XL image", "save it as JPEG or PNG")),
    (b"\x00\x00\x00\x0cJXL ", Kind("a JPEG XL image", "save it as JPEG or PNG")),
    (b"FUJIFILMCCD-RAW", Kind("a raw photo", "save it as JPEG")),
    (b"\x1aE\xdf\xa3", VIDEO),
)
TEXTS = (
    ((b"<!doctype", b"<html"), WEB_PAGE),
    ((b"<svg",), Kind("an SVG drawing", "save it as PNG")),
)
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
IMAGE_BRANDS = (b"avif", b"avis", b"jp2 ", b"jpx ")  # which Pillow may read


def kind_of(start: bytes) -> Kind | None:
    """Return what begins with these bytes, at least `START` of them or all that there are; None for anything else."""
    if not start:
        return EMPTY
    for known, kind in STARTS:
        if start.startswith(known):
            return kind
    if start[4:8] == b"ftyp" and start[8:12] not in IMAGE_BRANDS:
        return HEIC if start[8:12] in HEIC_BRANDS else VIDEO
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return VIDEO
    if start[257:262] == b"ustar":
        return TAR
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<?xml"):
        return TEXTS[1][1] if b"<svg" in text else WEB_PAGE
    return next((kind for starts, kind in TEXTS if text.startswith(starts)), None)


def archive(path: str | os.PathLike[str]) -> Kind | None:
    """Return `kind_of_file` where it is to be unpacked; None for everything else."""
    kind = kind_of_file(path)
    return kind if kind is not None and kind.remedy == UNPACK else None


def kind_of_file(path: str | os.PathLike[str]) -> Kind | None:
    """Return `kind_of` a file; None also for what cannot be read."""
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(START))
    except OSError:
        return None
