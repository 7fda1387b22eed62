"""Any image, a file or an array, to the uint8 RGB pixels that a bundle takes.

Dimensions: H, W pixels.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Union

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.protocol import Array

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["ImageLike", "load_image"]

ImageLike = Union[str, "os.PathLike[str]", Array]


def load_image(image: ImageLike, size: tuple[int, int]) -> Array:
    """Return `image` as uint8 RGB [H, W, 3].

    Args:
        image: a path, or uint8 RGB [h, w, 3] of any height and width.
        size: (H, W) in pixels; an image that has it already keeps its pixels, any other is resized (bicubic).

    Raises DeviceError when it is no image, is damaged, or the array has another shape or type.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise DeviceError(
                f"image is an array {image.dtype} {list(image.shape)}: give uint8 RGB [height, width, 3] or a path"
            )
        if image.shape[:2] == size:
            return image
        from PIL import Image

        return _fit(Image.fromarray(image), size)
    return _load_file(image, size)


def _load_file(path: str | os.PathLike[str], size: tuple[int, int]) -> Array:
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = os.fspath(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # else it would print and go on
            with Image.open(path) as file:
                upright = ImageOps.exif_transpose(file) or file
                return _fit(upright.convert("RGB"), size)
    except FileNotFoundError:
        raise DeviceError(f"image {name} does not exist: check the path") from None
    except UnidentifiedImageError:
        raise DeviceError(f"{name} is not an image: give a file that Pillow reads, such as PNG or JPEG") from None
    except Exception as error:  # decoders of damaged files raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeviceError(f"image {name} cannot be read ({reason}): replace or remove it") from error


def _fit(image: PillowImage, size: tuple[int, int]) -> Array:
    from PIL import Image

    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image, np.uint8)
