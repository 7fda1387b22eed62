"""Where images come from: files, folders, paths on standard input, a camera or a video; one at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Union

from firmware_host.bundle import DeviceError
from firmware_host.images import ImageLike
from firmware_host.images.labelled import STANDARD_INPUT, standard_input_paths
from firmware_host.process_memory import check_fits
from firmware_host.shared.folders import image_files
from firmware_host.terminal import without_runtime_chatter

__all__ = ["NamedImage", "frames", "good_images", "is_one_file", "named_images"]

CAMERA = re.compile("[0-9]{1,3}")
SOURCE = "use camera:NUMBER (0 is the first) or video:FILE"
VIDEO_BYTES = 48  # a pixel: frames that the decoder holds and ours (measured: 22 with MPEG-4, 15 with Motion JPEG)


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
    source: str, every: int = 1, count: int | None = None, max_memory_mb: float | None = None
) -> Iterator[NamedImage]:
    """Open a camera or a video and return its frames, uint8 RGB [h, w, 3], named SOURCE#INDEX from 0 on.

    Args:
        source: `camera:NUMBER` or `video:FILE`.
        every: take each `every`-th frame.
        count: end after so many frames taken; None: when the video ends, a camera never does.
        max_memory_mb: limit of the whole process in MiB, which a frame is checked against; None: none.

    Raises:
        DeviceError: before the first frame, for a source that is not one of these, does not open or is too large, and
            when OpenCV is not installed; later for a camera that stops.
    """
    if every < 1:
        raise DeviceError(f"every is {every}: use 1 or more")
    if count is not None and count < 1:
        raise DeviceError(f"frames is {count}: use 1 or more")
    kind, _, place = source.partition(":")
    if kind not in ("camera", "video") or not place or (kind == "camera" and not CAMERA.fullmatch(place)):
        raise DeviceError(f"source is {source!r}: {SOURCE}")
    if kind == "video" and not Path(place).is_file():
        raise DeviceError(f"video {place} does not exist or is not a file: check the path")
    cv2 = _opencv()
    with without_runtime_chatter(b""):  # our one line says it
        capture = cv2.VideoCapture(int(place) if kind == "camera" else place)
    if not capture.isOpened():
        remedy = "check that it is plugged in and not in use" if kind == "camera" else "give one that OpenCV reads"
        raise DeviceError(f"{kind} {place} does not open: {remedy}")
    if max_memory_mb is not None:
        width, height = (int(capture.get(what)) for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        check_fits(f"{kind} {place} ({width} x {height} pixels)", VIDEO_BYTES * width * height, max_memory_mb)
    return islice(_read_frames(capture, source, every), count)


def _read_frames(capture: Any, source: str, every: int) -> Iterator[NamedImage]:
    index = 0
    try:
        while capture.grab():
            if index % every == 0:
                good, frame = capture.retrieve()  # BGR
                name = f"{source}#{index}"
                yield NamedImage(
                    name, frame[:, :, ::-1] if good else DeviceError(f"frame {name} is damaged: leave it out")
                )
            index += 1
    finally:
        capture.release()
    if index == 0 or source.startswith("camera:"):
        raise DeviceError(f"{source} gave {'no frame' if index == 0 else f'no more after {index} frames'}: check it")


def _opencv() -> Any:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # silent
    try:
        import cv2
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise DeviceError(
            f'a camera or a video needs OpenCV ({reason}): install it with pip install "keras-cbpnet[video]"'
        ) from None
    return cv2
