"""Any image, a file or an array, to the uint8 RGB pixels that a bundle takes.

Dimensions: H, W pixels.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional, Union

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.images.decoding import FORMATS, bytes_to_decode
from firmware_host.process_memory import check_fits
from firmware_host.shared.pixels import draft, resized, upright_rgb

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["ImageLike", "load_image"]

ImageLike = Union[str, "os.PathLike[str]", Array]

_PILLOW_LIMIT = threading.Lock()


def load_image(image: ImageLike, size: tuple[int, int], max_memory_mb: Optional[float] = None) -> Array:
    """Return `image` as uint8 RGB [H, W, 3].

    A file may have any mode: transparent parts come out white, 16 bits lose the lower 8, EXIF orientation is applied;
    of an animation it is the first frame.

    Args:
        image: a path, or uint8 RGB [h, w, 3] of any height and width.
        size: (H, W) in pixels; an image that has it already keeps its pixels, any other is resized (bicubic).
        max_memory_mb: limit of the whole process in MiB, which a file is checked against before it is decoded; None:
            Pillow's own limit on pixels.

    Raises:
        DeviceError: it is not an image, is damaged or too large, or the array has another shape or type.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise DeviceError(
                f"image is an array {image.dtype} {list(image.shape)}: give uint8 RGB [height, width, 3] or a path"
            )
        if image.shape[:2] == size:
            return image
        from PIL import Image

        return np.array(resized(Image.fromarray(image), size), np.uint8)
    return _load_file(image, size, max_memory_mb)


def _load_file(path: str | os.PathLike[str], size: tuple[int, int], max_memory_mb: float | None) -> Array:
    from PIL import Image, UnidentifiedImageError

    name = os.fspath(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata: the image counts
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # else it would be ignored too
            _check_file(name, max_memory_mb)
            with _opened(name, max_memory_mb) as file:
                full = file.size
                draft(file, size)
                if max_memory_mb is not None:
                    check_fits(f"image {name} ({_kind(file, full)})", bytes_to_decode(file, full, size), max_memory_mb)
                return upright_rgb(file, size)
    except DeviceError:
        raise
    except FileNotFoundError:
        raise DeviceError(f"image {name} does not exist: check the path") from None
    except UnidentifiedImageError:
        raise DeviceError(
            f"{name} is not an image: give a file that Pillow reads as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        ) from None
    except Exception as error:  # decoders of damaged files raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeviceError(f"image {name} cannot be read ({reason}): replace or remove it") from error


def _check_file(name: str, max_memory_mb: float | None) -> None:
    """Refuse what would block when opened, and a file too large to be read at once, as some decoders do."""
    status = os.stat(name)
    if stat.S_ISDIR(status.st_mode):
        raise DeviceError(f"{name} is not an image but a folder: give a file")
    if not stat.S_ISREG(status.st_mode):
        raise DeviceError(f"{name} is not an image but a device, pipe or socket: give a file")
    if max_memory_mb is not None:
        check_fits(f"file {name}", status.st_size, max_memory_mb)


@contextmanager
def _opened(name: str, max_memory_mb: float | None) -> Iterator[PillowImage]:
    """Open the file's header; with a limit on memory, Pillow's own on pixels gives way to it."""
    from PIL import Image

    Image.init()
    formats = [known for known in FORMATS if known in Image.OPEN]  # depends on how Pillow was built
    if max_memory_mb is None:
        with Image.open(name, formats=formats) as file:
            yield file
        return
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            file = Image.open(name, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with file:
        yield file


def _kind(file: PillowImage, full: tuple[int, int]) -> str:
    return f"{file.format}, {full[0]} x {full[1]} pixels, mode {file.mode}"
