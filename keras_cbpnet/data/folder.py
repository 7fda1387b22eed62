"""Image folders: one folder per class, or train/ and test/ folders of them."""

# N images, H height, W width

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data.dataset import SPLIT_SEED, Dataset, stratified_split
from keras_cbpnet.data.files import has_parts, image_files, require_folder, subfolders
from keras_cbpnet.data.images import ImageFiles
from keras_cbpnet.data.preprocessing import ImageSize
from keras_cbpnet.errors import UserError

__all__ = ["class_folders", "labelled_files", "load_class_folders", "load_folder"]


def load_folder(path: str, image_size: ImageSize) -> Dataset:
    """Loads images from class folders; classes in the alphabetical order of their folders.

    Args:
        path: A folder with one folder per class (split 80/20, the same way in every run), or with the two folders
            train/ and test/, each with one folder per class. Images may lie in folders within a class folder.
        image_size: Side of the images in pixels, or (height, width).

    Returns:
        The data set.

    Raises:
        UserError: Path or classes missing, an empty class, or a visible file that is not an image.
    """
    root = require_folder(path, "one folder of images per class")
    return _load_parts(root, image_size) if has_parts(root) else load_class_folders(root, image_size)


def load_class_folders(root: Path, image_size: ImageSize, seed: int = SPLIT_SEED) -> Dataset:
    """Loads the class folders in `root`, every class split 80/20 into training and test images by `seed`."""
    names = class_folders(root)
    files, labels = labelled_files(root, names)
    train, test = stratified_split(labels, names, seed)
    x_train, x_test = (ImageFiles([files[row] for row in rows], image_size) for rows in (train, test))
    return Dataset(x_train, labels[train], x_test, labels[test], names)


def class_folders(root: Path) -> tuple[str, ...]:
    """Returns the names of the class folders in `root`, sorted.

    Raises:
        UserError: No such folder, or no folder in it.
    """
    if not root.is_dir():
        raise UserError(f"no folder {root}; add it, or give a folder with one folder of images per class")
    names = subfolders(root)
    if not names:
        raise UserError(f"folder {root} has no classes; put the images of each class in a folder of its own there")
    return names


def labelled_files(root: Path, names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Returns the image files of the class folders `names` in `root`, and their labels: int64 [N], index into `names`.

    Raises:
        UserError: A class folder has no images.
    """
    files = [image_files(root / name) for name in names]
    labels = np.repeat(np.arange(len(names), dtype=np.int64), [len(members) for members in files])
    return [file for members in files for file in members], labels


def _load_parts(root: Path, image_size: ImageSize) -> Dataset:
    names, test_names = class_folders(root / "train"), class_folders(root / "test")
    if names != test_names:
        odd = sorted(set(names) ^ set(test_names))[0]
        raise UserError(f"class '{odd}' is in only one of {root}/train and {root}/test; both need the same classes")
    train_files, train_labels = labelled_files(root / "train", names)
    test_files, test_labels = labelled_files(root / "test", names)
    return Dataset(
        ImageFiles(train_files, image_size), train_labels, ImageFiles(test_files, image_size), test_labels, names
    )
