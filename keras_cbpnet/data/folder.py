"""Image folders: one folder per class, or train/ and test/ folders of them."""

# N images, H height, W width

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import Input
from firmware_host.shared.folders import class_files
from firmware_host.shared.sensors.readers import IMAGE, suffixes_of
from keras_cbpnet.data.dataset import SPLIT_SEED, Dataset, stratified_split
from keras_cbpnet.data.files import split_layout, user_errors
from keras_cbpnet.data.images import ImageFiles
from keras_cbpnet.data.preprocessing import ImageSize
from keras_cbpnet.errors import UserError

__all__ = ["load_class_folders", "load_folder"]


def load_folder(path: str, image_size: ImageSize, taken: Input = IMAGE) -> Dataset:
    """Load images from class folders; classes in the alphabetical order of their folders.

    Args:
        path: a folder with one folder per class (split 80/20, the same way in every run), or with the two folders
            train/ and test/ (or val/), each with one folder per class. Images may lie in folders within a class folder.
        image_size: side of the images in pixels, or (height, width).
        taken: what the files are, where they are not images.

    Returns:
        The data set.

    Raises:
        UserError: path or classes missing, an empty class, or a visible file that is not an image.
    """
    layout = split_layout(path, "one folder of images per class", suffixes=suffixes_of(taken.kind))
    if not layout.parts:
        return replace(load_class_folders(layout.root, image_size, taken=taken), notes=layout.notes)
    with user_errors():
        train, test = (class_files(layout.parts[part]) for part in ("train", "test"))
    if odd := sorted(set(train) ^ set(test)):
        folders = f"{layout.parts['train']} and {layout.parts['test']}"
        raise UserError(f"class '{odd[0]}' is in only one of {folders}; both need the same classes")
    (x_train, y_train), (x_test, y_test) = (_labelled(files, image_size, taken) for files in (train, test))
    return Dataset(x_train, y_train, x_test, y_test, tuple(train), notes=layout.notes, input=taken)


def load_class_folders(root: Path, image_size: ImageSize, seed: int = SPLIT_SEED, taken: Input = IMAGE) -> Dataset:
    """Load the class folders in `root`, every class split 80/20 into training and test images by `seed`."""
    with user_errors():
        files = class_files(root)
    images, labels = _labelled(files, image_size, taken)
    train, test = stratified_split(labels, tuple(files), seed)
    return Dataset(images.subset(train), labels[train], images.subset(test), labels[test], tuple(files), input=taken)


def _labelled(files: dict[str, list[str]], image_size: ImageSize, taken: Input) -> tuple[ImageFiles, NDArray[np.int64]]:
    """Return the images of classes, and their labels: int64 [N], index into `files`."""
    labels = np.repeat(np.arange(len(files), dtype=np.int64), [len(members) for members in files.values()])
    return ImageFiles((file for members in files.values() for file in members), image_size, taken), labels
