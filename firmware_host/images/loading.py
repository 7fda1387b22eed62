"""Any image or recording, a file or an array, to the uint8 pixels that a bundle takes.

Dimensions: H, W pixels.
"""

from __future__ import annotations

import os
from typing import Optional, Union

import numpy as np

from firmware_host.bundle import DeviceError, Input
from firmware_host.engines.protocol import Array
from firmware_host.shared.sensors.readers import IMAGE, at_size, read_input_file

__all__ = ["ImageLike", "load_image"]

ImageLike = Union[str, "os.PathLike[str]", Array]


def load_image(
    image: ImageLike, size: tuple[int, int], max_memory_mb: Optional[float] = None, taken: Input = IMAGE
) -> Array:
    """Return `image` as uint8 RGB [H, W, 3]; a feature, [d], as it is.

    A file may have any mode: transparent parts come out white, 16 bits lose the lower 8, EXIF orientation is applied;
    of an animation it is the first frame.

    Args:
        image: a path, uint8 RGB [h, w, 3] of any height and width, or a feature of a backbone, as it stores them, [d].
        size: (H, W) in pixels; an image that has it already keeps its pixels, any other is resized (bicubic).
        max_memory_mb: limit of the whole process in MiB, which a file is checked against before it is decoded; None:
            that of `read_image_file` alone.
        taken: what a file must be; an array is a picture already.

    Raises:
        DeviceError: it is not what is taken, is damaged or too large, or the array has another shape or type.
    """
    if isinstance(image, np.ndarray):
        if image.ndim == 1:
            return image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise DeviceError(
                f"image is an array {image.dtype} {list(image.shape)}: give uint8 RGB [height, width, 3] or a path"
            )
        return at_size(image, size)
    return read_input_file(image, size, max_memory_mb, taken)
