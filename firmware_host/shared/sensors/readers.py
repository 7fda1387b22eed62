"""One loader of what a bundle's pictures are made of, for host and device: image files, or recordings by their kind.

Dimensions: H, W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.bundle.contract import Input
from firmware_host.shared.errors import DeviceError
from firmware_host.shared.folders import IMAGES
from firmware_host.shared.image_files import check_file, read_image_bytes, read_image_file
from firmware_host.shared.packages import need_pillow
from firmware_host.shared.pixels import resized
from firmware_host.shared.sensors.intel5300 import amplitude_of_log
from firmware_host.shared.sensors.pictures import csi_picture, series_picture
from firmware_host.shared.sensors.windows import read_window

__all__ = ["IMAGE", "READERS", "at_size", "channels_in", "read_input_bytes", "read_input_file", "suffixes_of"]

Array = np.ndarray[Any, Any]
Reader = Callable[[str, bytes, int], Array]  # name, content and channels to uint8 [32, 32, 3]
IMAGE = Input()
NEED = 8.0  # bytes in memory for each of a recording, numbers written as text at most
SUFFIXES: dict[str, tuple[str, ...]] = {"csi": (".dat",), "series": (".npy", ".csv")}


def read_input_file(
    name: str | os.PathLike[str], size: tuple[int, int], max_memory_mb: float | None = None, taken: Input = IMAGE
) -> Array:
    """Return a file as the picture that a backbone takes, uint8 [H, W, 3].

    Args:
        name: path of the file.
        size: (H, W) in pixels; the picture of a recording has 32 x 32, and is resized like an image.
        max_memory_mb: limit of the whole process in MiB, which the file is checked against before it is read; None: as
            of `read_image_file`.
        taken: what the file must be.

    Raises:
        DeviceError: it is something else, damaged, cut off or too large.
    """
    if taken.kind == IMAGE.kind:
        return read_image_file(name, size, max_memory_mb)
    path = os.fspath(name)
    try:
        check_file(path, max_memory_mb, "a recording", NEED)
        content = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DeviceError(f"recording {path} does not exist: check the path") from None
    except OSError as error:
        raise DeviceError(f"recording {path} cannot be read ({error.strerror}): replace or remove it") from error
    return read_input_bytes(path, content, size, max_memory_mb, taken)


def read_input_bytes(
    name: str, content: bytes, size: tuple[int, int], max_memory_mb: float | None = None, taken: Input = IMAGE
) -> Array:
    """Return what `read_input_file` does for the bytes of a file, which messages call `name`."""
    if taken.kind == IMAGE.kind:
        return read_image_bytes(name, content, size, max_memory_mb)
    return at_size(READERS[taken.kind](name, content, taken.channels), size)


def suffixes_of(kind: str) -> tuple[str, ...]:
    """Return the suffixes of the files of a kind."""
    return SUFFIXES.get(kind, IMAGES)


def at_size(picture: Array, size: tuple[int, int]) -> Array:
    """Return a picture, uint8 [h, w, 3], at the size (H, W), resized like an image."""
    if picture.shape[:2] == size:
        return picture
    need_pillow()
    from PIL import Image

    return np.array(resized(Image.fromarray(picture), size), np.uint8)


def channels_in(name: str, kind: str) -> int:
    """Return the channels of a window in a file, 0 for recordings of a kind that always has the same ones.

    Raises:
        DeviceError: as `read_input_file`.
    """
    return read_window(name, Path(name).read_bytes()).shape[1] if kind == "series" else 0


def _csi(name: str, content: bytes, channels: int) -> Array:
    return csi_picture(amplitude_of_log(name, content))


def _series(name: str, content: bytes, channels: int) -> Array:
    window = read_window(name, content)
    if channels not in (0, window.shape[1]):
        raise DeviceError(
            f"window {name} has {window.shape[1]} channels, {channels} are expected: write the same channels in the "
            "same order as all others"
        )
    return series_picture(window)


READERS: dict[str, Reader] = {"csi": _csi, "series": _series}
