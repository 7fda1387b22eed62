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
from firmware_host.decoding import FORMATS, bytes_to_decode, has_alpha
from firmware_host.memory import check_fits
from firmware_host.protocol import Array

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["ImageLike", "load_image"]

ImageLike = Union[str, "os.PathLike[str]", Array]

DRAFT = 4  # a JPEG is decoded at 1/2, 1/4 or 1/8 when it stays this many times as large as wanted
EXIF_ORIENTATION = 0x0112
TURNS = {  # Image.Transpose by EXIF orientation
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
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

    Raises DeviceError when it is no image, is damaged or too large, or the array has another shape or type.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise DeviceError(
                f"image is an array {image.dtype} {list(image.shape)}: give uint8 RGB [height, width, 3] or a path"
            )
        if image.shape[:2] == size:
            return image
        from PIL import Image

        return np.array(_resized(Image.fromarray(image), size), np.uint8)
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
                file.draft(None, (DRAFT * max(size), DRAFT * max(size)))
                if max_memory_mb is not None:
                    check_fits(f"image {name} ({_kind(file, full)})", bytes_to_decode(file, full, size), max_memory_mb)
                return _upright_rgb(file, size)
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


def _upright_rgb(file: PillowImage, size: tuple[int, int]) -> Array:
    """Decode, make small, then turn: what a large image needs beside its pixels stays small too."""
    from PIL import Image

    exif = file.getexif()  # before the file is closed
    file.load()  # a newer Pillow turns a TIFF here, and then takes that out of `exif`
    turn = TURNS.get(exif.get(EXIF_ORIENTATION, 1))
    turned = turn in ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
    small = _rgb_of_size(file, size[::-1] if turned else size)
    if turn is not None:
        small = small.transpose(Image.Transpose[turn])
    return np.array(small, np.uint8)


def _rgb_of_size(image: PillowImage, size: tuple[int, int]) -> PillowImage:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # 16 bits in either
        grey = np.right_shift(np.asarray(image), 8)
        return _resized(Image.fromarray(grey.astype(np.uint8)), size).convert("RGB")
    if image.mode in ("I", "F"):
        raise DeviceError(f"image {image.filename} has 32 bits a pixel and no known range: save it with 8 or 16 bits")  # type: ignore[attr-defined]
    if has_alpha(image):
        small = _resized(image if image.mode == "RGBA" else image.convert("RGBA"), size)
        white = Image.new("RGBA", small.size, "white")
        white.alpha_composite(small)
        return white.convert("RGB")
    if image.mode == "L":
        return _resized(image, size).convert("RGB")
    return _resized(image.convert("RGB") if image.mode != "RGB" else image, size)


def _resized(image: PillowImage, size: tuple[int, int]) -> PillowImage:
    from PIL import Image

    height, width = size
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC)
