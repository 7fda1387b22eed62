"""A data set in one .npz file."""

# N images, H height, W width

from __future__ import annotations

import os
from pathlib import Path

from firmware_host.shared.npz import read_npz
from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.files import user_errors
from keras_cbpnet.data.preprocessing import ImageSize, height_and_width
from keras_cbpnet.errors import UserError

__all__ = ["load_npz"]

KEYS = ("x_train", "y_train", "x_test", "y_test", "class_names")


def load_npz(path: str, image_size: ImageSize) -> Dataset:
    """Load x_train, x_test (uint8 [N, H, W, 3]), y_train, y_test (integers [N]) and class_names (strings).

    Args:
        path: the file, as `numpy.savez` writes it.
        image_size: side of the images in pixels, or (height, width), that `Dataset.images` gives them at.

    Returns:
        The data set.

    Raises:
        UserError: file missing or unreadable, a key missing, or an array that is not as described.
    """
    file = Path(os.path.expanduser(path))
    if not path or not file.is_file():
        raise UserError(f"no file '{path}'; give an existing .npz file with {', '.join(KEYS)}")
    with user_errors():
        found = read_npz(file, ("train", "test"))
    size = height_and_width(image_size)
    try:
        return Dataset(
            found.x["train"], found.y["train"], found.x["test"], found.y["test"], found.names, image_size=size
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
