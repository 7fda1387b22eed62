"""One loader of image files for host and device: what one of them refuses, the other refuses with the same words.

Dimensions: H, W pixels.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
import warnings
from typing import IO, TYPE_CHECKING, Any, Union

import numpy as np

from firmware_host.process_memory import MIB, check_fits, resident_memory_mb, side_by_side
from firmware_host.shared.decoding import FORMATS, HEADROOM, bytes_to_decode
from firmware_host.shared.errors import DeviceError
from firmware_host.shared.kinds import START, kind_of
from firmware_host.shared.packages import need_pillow
from firmware_host.shared.pixels import draft, upright_rgb
from firmware_host.shared.png import without_metadata

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["check_file", "read_image_bytes", "read_image_file"]

LARGEST = 2048 * MIB  # to decode one image, where nobody set a limit: 500 megapixels of RGB
OPTIONAL = (  # formats that a Pillow may lack, and what their files hold at which place
    ("AVIF", 4, b"ftypavi"),
    ("WEBP", 8, b"WEBP"),
    ("JPEG2000", 4, b"jP  "),
    ("JPEG2000", 0, b"\xff\x4f\xff\x51"),
)
_PILLOW_LIMIT = threading.Lock()


def read_image_file(
    name: str | os.PathLike[str], size: tuple[int, int], max_memory_mb: float | None = None
) -> np.ndarray[Any, Any]:
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
    path = os.fspath(name)
    return _read_any(path, path, size, max_memory_mb)


def read_image_bytes(
    name: str, content: bytes, size: tuple[int, int], max_memory_mb: float | None = None
) -> np.ndarray[Any, Any]:
    """Return what `read_image_file` does for the bytes of an image file, which messages call `name`."""
    return _read_any(name, content, size, max_memory_mb)


def _read_any(
    name: str, source: Union[str, bytes], size: tuple[int, int], max_memory_mb: float | None
) -> np.ndarray[Any, Any]:
    need_pillow()
    from PIL import UnidentifiedImageError

    try:
        with _NO_WARNINGS:  # of damaged metadata: the image counts
            if isinstance(source, str):
                check_file(source, max_memory_mb)
            try:
                return _read(name, source if isinstance(source, str) else io.BytesIO(source), size, max_memory_mb)
            except Exception as error:
                with _stream(source) as file:
                    plain = without_metadata(file)
                    if plain is None or isinstance(error, DeviceError):
                        raise
                    with contextlib.suppress(Exception):  # then it is not the metadata that are damaged or too large
                        return _read(name, plain, size, max_memory_mb)
                raise
    except DeviceError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise DeviceError(f"image {name} does not exist: check the path") from None
    except UnidentifiedImageError:
        raise DeviceError(_not_an_image(name, source)) from None
    except Exception as error:  # decoders of damaged files raise any kind of error
        said = getattr(error, "strerror", None) or str(error)
        reason = " ".join(said.split()) or type(error).__name__
        raise DeviceError(f"image {name} cannot be read ({reason}): replace or remove it") from error


def _read(
    name: str, file: Union[str, IO[bytes]], size: tuple[int, int], max_memory_mb: float | None
) -> np.ndarray[Any, Any]:
    with _opened(file) as image:
        full = image.size
        box = draft(image, size)
        need = bytes_to_decode(image, full, size)
        with side_by_side(need, lambda: _free_mb(max_memory_mb)):
            _check_size(f"image {name} ({_described(image, full)})", need, max_memory_mb)
            return upright_rgb(image, size, box)


def _stream(source: Union[str, bytes]) -> IO[bytes]:
    return open(source, "rb") if isinstance(source, str) else io.BytesIO(source)


def _not_an_image(name: str, source: Union[str, bytes]) -> str:
    """Return the line about a file that Pillow does not know: what it is, or else what Pillow reads here."""
    import PIL

    with _stream(source) as file:
        start = file.read(START)
    if kind := kind_of(start):
        return f"{name} is not an image but {kind.what}: {kind.remedy}"
    readable = _formats()
    for named, place, beginning in OPTIONAL:
        if start.startswith(beginning, place) and named not in readable:
            return (
                f"image {name} is {named}, which Pillow {PIL.__version__} does not read here: save it as JPEG or PNG, "
                "or install a newer one with pip install --upgrade pillow"
            )
    return f"{name} is not an image: give a file that Pillow reads as {', '.join(readable[:-1])} or {readable[-1]}"


def check_file(name: str, max_memory_mb: float | None, what: str = "an image", need: float = 1.0) -> None:
    """Refuse what would block when opened, and a file too large to be read at once, as some decoders do.

    A small file needs no look at the memory of its own: `bytes_to_decode` counts it.

    Args:
        name: path of the file.
        max_memory_mb: as of `read_image_file`.
        what: it should be, as messages say it.
        need: bytes in memory for each of the file.

    Raises:
        DeviceError: it is a folder, device, pipe or socket, or too large.
    """
    status = os.stat(name)
    if stat.S_ISDIR(status.st_mode):
        raise DeviceError(f"{name} is not {what} but a folder: give a file")
    if not stat.S_ISREG(status.st_mode):
        raise DeviceError(f"{name} is not {what} but a device, pipe or socket: give a file")
    if status.st_size * need > HEADROOM:
        _check_size(f"file {name}", int(status.st_size * need), max_memory_mb)


def _check_size(what: str, need: int, max_memory_mb: float | None) -> None:
    if max_memory_mb is not None:
        check_fits(what, need, max_memory_mb)
    elif need > LARGEST:
        raise DeviceError(f"{what} needs {need / MIB:.0f} MiB, more than {LARGEST // MIB}: make it smaller")


def _free_mb(max_memory_mb: float | None) -> float:
    """Return how many MiB the images that are being decoded may take together."""
    return LARGEST / MIB if max_memory_mb is None else max_memory_mb - resident_memory_mb()


class _NoWarnings:
    """Ignores warnings while any thread is in this context, for their filters are those of the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._filters = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._threads:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._filters.close()


_NO_WARNINGS = _NoWarnings()


def _formats() -> list[str]:
    """Return those of the formats that Pillow reads; it depends on its version and how it was built."""
    from PIL import Image

    Image.init()
    return [known for known in FORMATS if known in Image.OPEN]


def _opened(file: Union[str, IO[bytes]]) -> PillowImage:
    """Return the file with its header read; a limit on memory replaces Pillow's limit on pixels."""
    from PIL import Image

    formats = _formats()
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened: PillowImage = Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    return opened


def _described(file: PillowImage, full: tuple[int, int]) -> str:
    return f"{file.format}, {full[0]} x {full[1]} pixels, mode {file.mode}"
