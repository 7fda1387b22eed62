"""One loader of image files for host and device: what one of them refuses, the other refuses with the same words.

Dimensions: H, W pixels.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_host.process_memory import MIB, check_fits
from firmware_host.shared.decoding import FORMATS, bytes_to_decode
from firmware_host.shared.errors import DeviceError
from firmware_host.shared.packages import need_pillow
from firmware_host.shared.pixels import draft, upright_rgb

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["read_image_file"]

LARGEST = 2048 * MIB  # to decode one image, where nobody set a limit: 500 megapixels of RGB
_PILLOW_LIMIT = threading.Lock()


def read_image_file(name: str, size: tuple[int, int], max_memory_mb: float | None = None) -> np.ndarray[Any, Any]:
    """Return an image file as uint8 RGB [H, W, 3].

    Any mode is taken: transparent parts come out white, 16 bits lose the lower 8, the orientation that its metadata
    name is applied; of an animation it is the first frame.

    Args:
        name: path of the file.
        size: (H, W) in pixels; an image that has it already keeps its pixels, any other is resized (bicubic).
        max_memory_mb: limit of the whole process in MiB, which the file is checked against before it is decoded; None:
            an image may take `LARGEST` bytes.

    Raises:
        DeviceError: it is not an image, is damaged or too large.
    """
    need_pillow()
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata: the image counts
            _check_file(name, max_memory_mb)
            with _opened(name) as file:
                full = file.size
                draft(file, size)
                _check_size(f"image {name} ({_kind(file, full)})", bytes_to_decode(file, full, size), max_memory_mb)
                return upright_rgb(file, size)
    except DeviceError:
        raise
    except FileNotFoundError:
        raise DeviceError(f"image {name} does not exist: check the path") from None
    except UnidentifiedImageError:
        raise DeviceError(
            f"{name} is not an image: give a file that Pillow reads as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        ) from None
    except Exception as error:  # decoders of damaged files raise any kind of error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeviceError(f"image {name} cannot be read ({reason}): replace or remove it") from error


def _check_file(name: str, max_memory_mb: float | None) -> None:
    """Refuse what would block when opened, and a file too large to be read at once, as some decoders do."""
    status = os.stat(name)
    if stat.S_ISDIR(status.st_mode):
        raise DeviceError(f"{name} is not an image but a folder: give a file")
    if not stat.S_ISREG(status.st_mode):
        raise DeviceError(f"{name} is not an image but a device, pipe or socket: give a file")
    _check_size(f"file {name}", status.st_size, max_memory_mb)


def _check_size(what: str, need: int, max_memory_mb: float | None) -> None:
    if max_memory_mb is not None:
        check_fits(what, need, max_memory_mb)
    elif need > LARGEST:
        raise DeviceError(f"{what} needs {need / MIB:.0f} MiB, more than {LARGEST // MIB}: make it smaller")


def _opened(name: str) -> PillowImage:
    """Return the file with its header read; a limit on memory replaces Pillow's limit on pixels."""
    from PIL import Image

    Image.init()
    formats = [known for known in FORMATS if known in Image.OPEN]  # depends on how Pillow was built
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened: PillowImage = Image.open(name, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    return opened


def _kind(file: PillowImage, full: tuple[int, int]) -> str:
    return f"{file.format}, {full[0]} x {full[1]} pixels, mode {file.mode}"
