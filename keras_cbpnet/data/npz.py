"""A data set in one .npz file."""

# N images, H height, W width

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data.dataset import Dataset
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
    file = Path(path).expanduser()
    if not path or not file.is_file():
        raise UserError(f"no file '{path}'; give an existing .npz file with {', '.join(KEYS)}")
    arrays = _read(file)
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(
            f"class_names in {path} has dtype {names.dtype} and shape {names.shape}; "
            "store a one-dimensional array of strings"
        )
    for key in ("y_train", "y_test"):
        if arrays[key].dtype.kind not in "iu":
            raise UserError(f"{key} in {path} has dtype {arrays[key].dtype}; labels must be integers")
    try:
        return Dataset(
            arrays["x_train"],
            arrays["y_train"].astype(np.int64),
            arrays["x_test"],
            arrays["y_test"].astype(np.int64),
            tuple(str(name) for name in names),
            image_size=height_and_width(image_size),
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _read(file: Path) -> dict[str, NDArray[Any]]:
    try:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise UserError(f"{file} holds a single array; save a .npz file with {', '.join(KEYS)}")
        with archive:
            missing = [key for key in KEYS if key not in archive.files]
            if missing:
                raise UserError(f"{file} has no array '{missing[0]}'; it needs {', '.join(KEYS)}")
            return {key: archive[key] for key in KEYS}
    except UserError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {file}: damaged, not a .npz file, or pickled objects in it") from error
