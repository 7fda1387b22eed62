"""Labelled images on disk: a folder with one folder per class, or `npz:PATH`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.images import ImageLike
from firmware_host.protocol import Array

__all__ = ["LabelledImages", "read_data"]

SPLITS = ("train", "test")
NOT_IMAGES = {"thumbs.db", "desktop.ini"}  # what file managers leave behind, besides hidden files
LAYOUT = "give a folder with one folder of images per class, or npz:PATH"


class LabelledImages(NamedTuple):
    """Images (paths or uint8 arrays [h, w, 3]) and the class name of each."""

    images: list[ImageLike]
    labels: list[str]


def read_data(source: str, split: str) -> LabelledImages:
    """Read the images that DATA on the command line names; files are listed, not opened.

    Args:
        source: a folder with one folder per class, a folder with train/ and test/ folders of such, or `npz:PATH` with
            x_train, y_train, x_test, y_test (x uint8 [N, h, w, 3], y integer [N]) and class_names.
        split: `train` or `test`; which part to take where there are two.

    Raises DeviceError for no classes, a class without images, or a file that is no such .npz.
    """
    if source.startswith("npz:"):
        return _read_npz(Path(source[len("npz:") :]), split)
    root = Path(source)
    if not root.is_dir():
        raise DeviceError(f"data {source} is not a folder: {LAYOUT}")
    if any(_folders(root / name) for name in SPLITS):
        root = root / split
        if not root.is_dir():
            raise DeviceError(f"data {source} has no folder {split}: add it, or {LAYOUT}")
    return _read_folder(root)


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _read_folder(root: Path) -> LabelledImages:
    classes = _folders(root)
    if not classes:
        raise DeviceError(f"data {root} holds no class: {LAYOUT}")
    images: list[ImageLike] = []
    labels: list[str] = []
    for folder in classes:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _counts(path.relative_to(folder))]
        if not files:
            raise DeviceError(f"class folder {folder} is empty: add images or remove it")
        images += files
        labels += [folder.name] * len(files)
    return LabelledImages(images, labels)


def _counts(path: Path) -> bool:
    return path.name.lower() not in NOT_IMAGES and not any(part.startswith(".") for part in path.parts)


def _read_npz(path: Path, split: str) -> LabelledImages:
    wanted = (f"x_{split}", f"y_{split}", "class_names")
    if not path.is_file():
        raise DeviceError(f"data {path} does not exist: give the path of an .npz file after npz:")
    try:
        with np.load(os.fspath(path), allow_pickle=False) as arrays:
            missing = [name for name in wanted if name not in arrays.files]
            x, y, names = (None, None, None) if missing else (arrays[name] for name in wanted)
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for one cause
        reason = " ".join(str(error).split())
        raise DeviceError(f"data {path} is not a readable .npz ({reason}): write it again with numpy.savez") from error
    if x is None or y is None or names is None:
        raise DeviceError(f"data {path} lacks {', '.join(missing)}: write x_{split}, y_{split} and class_names")
    _check_npz(path, split, x, y, names)
    return LabelledImages(list(x), [str(names[label]) for label in y])


def _check_npz(path: Path, split: str, x: Array, y: Array, names: Array) -> None:
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] != 3:
        raise DeviceError(f"data {path}: x_{split} is {x.dtype} {list(x.shape)}: write uint8 RGB [N, height, width, 3]")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DeviceError(
            f"data {path}: y_{split} is {y.dtype} {list(y.shape)} for {len(x)} images: write one integer per image"
        )
    if names.dtype.kind != "U" or names.ndim != 1:
        raise DeviceError(f"data {path}: class_names is {names.dtype} {list(names.shape)}: write a vector of strings")
    if len(x) == 0:
        raise DeviceError(f"data {path}: x_{split} holds no image: give at least one")
    if y.min() < 0 or y.max() >= len(names):
        worst = int(y.min() if y.min() < 0 else y.max())
        raise DeviceError(f"data {path}: y_{split} contains {worst}, class_names has {len(names)} names: correct one")
