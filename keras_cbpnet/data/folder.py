"""Image folders: one folder per class, or train/ and test/ folders of them; ImageNet-R in its own layout."""

# N images, H height, W width

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data.dataset import Dataset, stratified_split
from keras_cbpnet.data.preprocessing import ImageSize, height_and_width, read_image
from keras_cbpnet.errors import UserError

__all__ = ["datasets_folder", "load_folder", "load_imagenet_r"]

NOT_IMAGES = frozenset({"desktop.ini", "thumbs.db"})  # what file managers leave behind, besides hidden files


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
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise UserError(f"no folder '{path}'; give an existing folder with one folder of images per class")
    if any(_folders(root / part) for part in ("train", "test")):
        return _load_split(root, image_size)
    return _load_whole(root, image_size)


def load_imagenet_r(image_size: ImageSize, seed: int = 0) -> Dataset:
    """Loads ImageNet-R (Hendrycks et al., ICCV 2021): 200 class folders, split 80/20 by `seed` as DualPrompt does."""
    root = datasets_folder() / "imagenet-r"
    if not root.is_dir():
        raise UserError(
            f"ImageNet-R is not in {root}; download https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar "
            f"and unpack it in {root.parent}"
        )
    return _load_whole(root, image_size, seed)


def datasets_folder() -> Path:
    """Returns the folder Keras keeps data sets in."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets"


def _load_whole(root: Path, image_size: ImageSize, seed: int | None = None) -> Dataset:
    names = _class_names(root)
    files, labels = _files(root, names)
    train, test = stratified_split(labels, names) if seed is None else stratified_split(labels, names, seed)
    images = _read(files, image_size)
    return Dataset(images[train], labels[train], images[test], labels[test], names)


def _load_split(root: Path, image_size: ImageSize) -> Dataset:
    names = _class_names(root / "train")
    test_names = _class_names(root / "test")
    if names != test_names:
        odd = sorted(set(names) ^ set(test_names))[0]
        raise UserError(f"class '{odd}' is in only one of {root}/train and {root}/test; both need the same classes")
    train_files, train_labels = _files(root / "train", names)
    test_files, test_labels = _files(root / "test", names)
    return Dataset(_read(train_files, image_size), train_labels, _read(test_files, image_size), test_labels, names)


def _class_names(root: Path) -> tuple[str, ...]:
    if not root.is_dir():
        raise UserError(f"no folder {root}; add it, or give a folder with one folder of images per class")
    names = _folders(root)
    if not names:
        raise UserError(f"folder {root} has no classes; put the images of each class in a folder of its own there")
    return names


def _folders(root: Path) -> tuple[str, ...]:
    if not root.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")))


def _files(root: Path, names: Sequence[str]) -> tuple[list[Path], NDArray[np.int64]]:
    files, labels = [], []
    for label, name in enumerate(names):
        folder = root / name
        members = sorted(path for path in folder.rglob("*") if path.is_file() and _counts(path.relative_to(folder)))
        if not members:
            raise UserError(f"class folder {folder} has no images; add some or remove the folder")
        files += members
        labels += [label] * len(members)
    return files, np.asarray(labels, np.int64)


def _counts(path: Path) -> bool:
    return path.name.lower() not in NOT_IMAGES and not any(part.startswith(".") for part in path.parts)


def _read(files: Sequence[Path], image_size: ImageSize) -> NDArray[np.uint8]:
    images = np.empty((len(files), *height_and_width(image_size), 3), np.uint8)
    for index, file in enumerate(files):
        images[index] = read_image(file, image_size)
    return images
