"""What decoding an image will take, from its header alone.

The bytes a pixel are those that Pillow and its decoders hold at once, measured in
tests/firmware_host/images/test_process_memory.py.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from firmware_host.process_memory import MIB
from firmware_host.shared.pixels import has_alpha

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["FORMATS", "HEADROOM", "bytes_to_decode"]

# Not all that Pillow knows: EPS would start Ghostscript, ICO and ICNS hold images larger than their headers say.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")

HEADROOM = 8 * MIB  # a file that is read at once, decoders, buffers of rows, Pillow's plugins at the first image
EDGE = 64  # bytes for each row and column: addresses of the rows, coefficients of the resizing
STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # bytes a pixel in memory, else 4
CONVERTED = 4  # a second image of 4 bytes a pixel
TO_8_BITS = 8  # from 16, in NumPy
DECODER = {"WEBP": 12, "AVIF": 16, "JPEG2000": 16, "TIFF": 8, "PPM": 4}  # bytes a pixel besides


def bytes_to_decode(image: PillowImage, full: tuple[int, int], size: tuple[int, int]) -> int:
    """Return the bytes that decoding an image and resizing it take, the image's own pixels included.

    Args:
        image: opened, not loaded; a JPEG after `draft`.
        full: its (width, height) before `draft`.
        size: (H, W) wanted.
    """
    width, height = image.size
    stored = STORED.get(image.mode, 4)
    a_pixel = stored + DECODER.get(image.format or "", 0)
    if image.mode.startswith("I"):
        a_pixel += TO_8_BITS
    elif has_alpha(image):
        a_pixel += CONVERTED * (1 if image.mode == "RGBA" else 2)  # resizing multiplies by alpha in a separate image
    elif image.mode not in ("L", "RGB"):
        a_pixel += CONVERTED
    resizing = 4 * max(size) * height + EDGE * (width + height)
    return width * height * a_pixel + resizing + _coefficients(image, full) + HEADROOM


def _coefficients(image: PillowImage, full: tuple[int, int]) -> int:
    """Return the bytes of the coefficients that libjpeg holds of a JPEG in several scans, whatever its draft size."""
    if image.format not in ("JPEG", "MPO"):
        return 0
    bands = getattr(image, "layers", 4)
    file: IO[bytes] = image.fp  # type: ignore[attr-defined]  # a file, or bytes in memory
    place = file.tell()
    components = _components_of_first_scan(file)
    file.seek(place)
    if components == bands and "progressive" not in image.info:
        return 0
    return 2 * bands * full[0] * full[1]


def _components_of_first_scan(file: IO[bytes]) -> int:
    """Return how many components the first scan of a JPEG has; 0 when none is found."""
    file.seek(2)  # after the start of the image
    while True:
        byte = file.read(1)
        if byte != b"\xff":
            return 0
        while byte == b"\xff":  # any number of them may fill up
            byte = file.read(1)
        length = int.from_bytes(file.read(2), "big")
        if byte == b"\xda":
            return int.from_bytes(file.read(1), "big")
        if length < 2:
            return 0
        file.seek(length - 2, 1)
