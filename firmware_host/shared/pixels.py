"""From an opened image file to the pixels that a backbone takes, the same on host and device (Pillow).

Dimensions: H, W pixels.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from firmware_host.shared.errors import DeviceError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["draft", "has_alpha", "resized", "upright_rgb"]

DRAFT = 2  # a JPEG is decoded at 1/2, 1/4 or 1/8 when it stays this many times as large as wanted
Box = Optional[tuple[float, float, float, float]]  # left, upper, right, lower edge of a part; None: all of the image
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


def draft(file: PillowImage, size: tuple[int, int]) -> Box:
    """Have a large JPEG decoded small; other formats stay as they are.

    Args:
        file: opened, not loaded.
        size: (H, W) wanted.

    Returns:
        The part of what will be decoded that is the image: a row or column that is not full is decoded as a full one.
    """
    drafted = file.draft(None, (DRAFT * max(size), DRAFT * max(size)))
    return None if drafted is None else drafted[1]


def has_alpha(image: PillowImage) -> bool:
    """Return whether some of the image may be transparent."""
    return image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info


def upright_rgb(file: PillowImage, size: tuple[int, int], box: Box) -> np.ndarray[Any, Any]:
    """Decode an opened image file: uint8 RGB [H, W, 3], turned as its EXIF orientation says.

    Transparent parts come out white, 16 bits lose the lower 8. It is made small before it is turned, so that what a
    large image needs beside its pixels stays small.

    Args:
        file: opened, not loaded.
        size: (H, W) wanted.
        box: as `draft` returned it.

    Raises:
        DeviceError: for 32 bits a pixel, and what Pillow raises.
    """
    from PIL import Image

    file.load()  # first: what is wrong with the pixels must not be taken for damaged metadata
    turn = TURNS.get(_orientation(file))
    turned = turn in ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
    small = _rgb_of_size(file, size[::-1] if turned else size, box)
    if turn is not None:
        small = small.transpose(Image.Transpose[turn])
    return np.array(small, np.uint8)


def _orientation(file: PillowImage) -> Any:
    """Return the orientation that the metadata name, 1 (upright) where they are damaged: the image counts."""
    from PIL import Image

    if file.format == "TIFF":  # `load` turns it, in every Pillow; some still name the orientation afterwards
        return 1
    exif = Image.Exif()
    try:
        exif = file.getexif()
    except Exception:  # Pillow 11.2 looks into the XMP too, which need not be UTF-8
        with contextlib.suppress(Exception):
            exif.load(file.info.get("exif", b""))
    return exif.get(EXIF_ORIENTATION, 1)


def _rgb_of_size(image: PillowImage, size: tuple[int, int], box: Box) -> PillowImage:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # 16 bits in either
        grey = np.right_shift(np.asarray(image), 8)
        return resized(Image.fromarray(grey.astype(np.uint8)), size).convert("RGB")
    if image.mode in ("I", "F"):
        raise DeviceError(f"image {image.filename} has 32 bits a pixel and no known range: save it with 8 or 16 bits")  # type: ignore[attr-defined]
    if has_alpha(image):
        small = resized(image if image.mode == "RGBA" else image.convert("RGBA"), size)
        white = Image.new("RGBA", small.size, "white")
        white.alpha_composite(small)
        return white.convert("RGB")
    if image.mode == "L":
        return resized(image, size, box).convert("RGB")
    return resized(image.convert("RGB") if image.mode != "RGB" else image, size, box)


def resized(image: PillowImage, size: tuple[int, int], box: Box = None) -> PillowImage:
    """Return `box` of an image at size (H, W): bicubic, antialiased when shrinking; itself if it has that size."""
    from PIL import Image

    height, width = size
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC, box)
