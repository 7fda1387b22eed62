"""Resizing on the host's CPU, with Pillow, so that host and device see the same pixels."""

# N images, H height, W width

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Union

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from firmware_host.bundle import Input
from firmware_host.shared.pixels import resized
from firmware_host.shared.sensors.readers import IMAGE, read_input_file
from keras_cbpnet.data.files import user_errors
from keras_cbpnet.errors import UserError

__all__ = ["ImageSize", "height_and_width", "read_image", "resize_images"]

ImageSize = Union[int, Sequence[int]]


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Return `size`, one number or (height, width) in pixels, as (height, width)."""
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    if min(height, width) < 1:
        raise UserError(f"image size {height}x{width} is not positive; give the size in pixels, such as 32")
    return int(height), int(width)


def resize_images(images: NDArray[np.uint8], size: ImageSize) -> NDArray[np.uint8]:
    """Resize images with Pillow's bicubic filter (antialiased when shrinking).

    Args:
        images: uint8 [N, H, W, 3], RGB.
        size: side of the result in pixels, or (height, width).

    Returns:
        uint8 [N, height, width, 3]; `images` itself if it has that size already.
    """
    height, width = height_and_width(size)
    if images.shape[1:3] == (height, width):
        return images
    result = np.empty((len(images), height, width, 3), np.uint8)
    for index, image in enumerate(images):
        result[index] = resized(Image.fromarray(image), (height, width))
    return result


def read_image(path: str | os.PathLike[str], size: ImageSize, taken: Input = IMAGE) -> NDArray[np.uint8]:
    """Read one image file upright as RGB, uint8 [height, width, 3], or a recording, just as the device package does.

    Raises:
        UserError: the file is not what `taken` says, is damaged or too large; as the device package says it.
    """
    with user_errors():
        return read_input_file(path, height_and_width(size), taken=taken)
