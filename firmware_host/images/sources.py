"""Where images come from: files, folders, paths on standard input, cameras and videos; one at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple, Union

from firmware_host.bundle import DeviceError
from firmware_host.images import ImageLike
from firmware_host.images.cameras import DamagedError, kind_of, shown
from firmware_host.images.cameras.kind import Takes
from firmware_host.images.labelled import STANDARD_INPUT, standard_input_paths
from firmware_host.images.region import WHOLE, Region
from firmware_host.shared.folders import image_files

__all__ = ["NamedImage", "frames", "good_images", "has_end", "is_one_file", "named_images"]

DAMAGED = 50  # frames in a row after which a camera is lost


class NamedImage(NamedTuple):
    """An image and what to call it; or the error in its place."""

    name: str
    image: Union[ImageLike, DeviceError]


def is_one_file(paths: Sequence[str]) -> bool:
    """Return whether these name one image and no more: then a bad one is the end, and not one among many."""
    return len(paths) == 1 and paths[0] != STANDARD_INPUT and not os.path.isdir(paths[0])


def good_images(images: Iterable[NamedImage]) -> Iterator[ImageLike]:
    """Yield the images without their names; raises the DeviceError of the first that is in place of one."""
    for _, image in images:
        if isinstance(image, DeviceError):
            raise image
        yield image


def named_images(paths: Iterable[str]) -> Iterator[NamedImage]:
    """Yield the images that `paths` name; nothing is opened, and no more than one folder's names are held.

    Args:
        paths: files, folders (all files in them and in their folders) and `-` (one path a line on standard input).
    """
    for path in paths:
        if path == STANDARD_INPUT:
            yield from _files(standard_input_paths())
        else:
            yield from _files([path])


def _files(paths: Iterable[str]) -> Iterator[NamedImage]:
    for path in paths:
        if not os.path.isdir(path):
            yield NamedImage(path, path)
            continue
        empty = True
        try:
            for file in image_files(path):
                empty = False
                yield NamedImage(str(file), file)
        except DeviceError as error:  # a folder in it cannot be read
            yield NamedImage(path, error)
        else:
            if empty:
                yield NamedImage(path, DeviceError(f"folder {path} holds no image: add some or leave it out"))


def frames(
    source: str,
    every: int = 1,
    count: int | None = None,
    max_memory_mb: float | None = None,
    region: Region | None = None,
    per_second: float | None = None,
) -> Iterator[NamedImage]:
    """Open a camera or a video and return its frames, uint8 RGB [h, w, 3], named SOURCE#INDEX from 0 on.

    Args:
        source: one of the forms of `firmware_host.images.cameras.KINDS`, such as `picamera` or `video:FILE`.
        every: take each `every`-th frame.
        count: end after so many frames taken; None: when the video ends, a camera never does.
        max_memory_mb: limit of the whole process in MiB, which a frame is checked against; None: none.
        region: the part of every frame that is returned; None: all of it.
        per_second: take so many a second at most: of a camera the newest, and a video is played more slowly; None: all.

    Raises:
        DeviceError: before the first frame, for a source that is not one of these, does not open or is too large, and
            when a package that it needs is not installed; later for a camera that is lost.
    """
    if every < 1:
        raise DeviceError(f"every is {every}: use 1 or more")
    if count is not None and count < 1:
        raise DeviceError(f"frames is {count}: use 1 or more")
    kind = kind_of(source)
    apart = 0.0 if per_second is None else 1.0 / per_second
    return islice(_taken(kind.open(source, max_memory_mb), source, every, region or WHOLE, apart), count)


def has_end(source: str) -> bool:
    """Return whether a source comes to an end by itself; raises DeviceError for one that is none."""
    return kind_of(source).ends


def _taken(given: Takes, source: str, every: int, region: Region, apart: float) -> Iterator[NamedImage]:
    """Yield the frames that are taken, at least `apart` seconds from one to the next."""
    called, ends, index, due, damaged = shown(source), has_end(source), -1, 0.0, 0
    with closing(given):
        for index, take in enumerate(given):
            early = due - time.monotonic()
            if index % every or (early > 0.0 and not ends):
                continue
            if early > 0.0:
                time.sleep(early)
            due = time.monotonic() + apart
            name = f"{called}#{index}"
            try:
                image = NamedImage(name, region.cut(take()))
                damaged = 0
            except DamagedError:
                image = NamedImage(name, DeviceError(f"frame {name} is damaged: leave it out"))
                damaged += 1
            yield image
            if damaged >= DAMAGED and not ends:
                raise DeviceError(f"{called} gave {DAMAGED} damaged frames in a row: check it")
    if not ends or index < 0:
        gave = "no frame" if index < 0 else f"no more after {index + 1} frames"
        raise DeviceError(f"{called} gave {gave}: check it")
