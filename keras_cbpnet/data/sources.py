"""Data sources by name: what `--dataset` accepts."""

# N images, H height, W width

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_cbpnet.data.cifar100 import load_cifar100
from keras_cbpnet.data.core50 import load_core50
from keras_cbpnet.data.cub200 import load_cub200
from keras_cbpnet.data.dataset import Dataset, stratified_split
from keras_cbpnet.data.domains import load_domains
from keras_cbpnet.data.folder import load_folder
from keras_cbpnet.data.imagenet_r import load_imagenet_r
from keras_cbpnet.data.npz import load_npz
from keras_cbpnet.data.preprocessing import ImageSize, height_and_width
from keras_cbpnet.data.recordings import load_csi, load_series
from keras_cbpnet.errors import UserError

__all__ = [
    "NAMED_SOURCES",
    "PATH_SOURCES",
    "defaults_of",
    "find_source",
    "load_dataset",
    "open_dataset",
    "shows_photographs",
    "source_names",
]


def load_dataset(spec: str, image_size: ImageSize, seed: int = 0) -> Dataset:
    """Load a data set with all images in memory at one size; arguments as `open_dataset`."""
    return open_dataset(spec, image_size, seed).resized()


def open_dataset(spec: str, image_size: ImageSize, seed: int = 0) -> Dataset:
    """Open a data set whose `images` have one size; image files are decoded when their rows are asked for.

    Args:
        spec: `digits`, `cifar100`, `imagenet_r`, `cub200`, `core50` (with domains), `folder:PATH` (one folder per
            class, or train/ and test/ folders of them), `domains:PATH` (one folder per domain with one folder per
            class in each, or train/ and test/ folders of them), `npz:PATH` (x_train, y_train, x_test, y_test,
            class_names), `csi:PATH` (WiFi channel state, an .npz file or folders of .dat files) or `series:PATH`
            (windows of any sensor, folders of .npy or .csv files).
        image_size: side of the images in pixels, or (height, width); resized with Pillow's bicubic filter.
        seed: seed of the training/test split where the source leaves it to the user (`imagenet_r`). `digits` and
            folders are split once and for all, so every run is tested on the same images.

    Returns:
        The data set.

    Raises:
        UserError: unknown name, or data that are missing, damaged or not as described.
    """
    return find_source(spec)(image_size, seed)


def find_source(spec: str) -> Callable[[ImageSize, int], Dataset]:
    """Return what opens the data set `spec`, given image size and seed; nothing is read yet.

    Raises:
        UserError: unknown name.
    """
    kind, colon, path = spec.partition(":")
    if colon and kind in PATH_SOURCES:
        return lambda image_size, seed: PATH_SOURCES[kind](path, image_size)
    if spec in NAMED_SOURCES:
        return NAMED_SOURCES[spec]
    meant = "folder" if os.path.isdir(spec) else "npz" if spec.lower().endswith(".npz") else ""
    if meant:
        raise UserError(f"unknown data set '{spec}'; give {meant}:{spec} if that is what you mean")
    raise UserError(f"unknown data set '{spec}'; choose one of {', '.join(source_names())}")


def source_names() -> list[str]:
    """Return what `--dataset` takes, in words: `digits`, ..., `folder:PATH`, ..."""
    return [*NAMED_SOURCES, *(f"{name}:PATH" for name in PATH_SOURCES)]


def shows_photographs(spec: str) -> bool:
    """Return whether the data set `spec` is known to hold photographs larger than 32x32 pixels; nothing is read."""
    return spec.partition(":")[0] in PHOTOGRAPHS


def defaults_of(spec: str) -> dict[str, Any]:
    """Return what a run on the data set `spec` changes of the trainer's defaults; nothing is read."""
    return dict(DEFAULTS.get(spec.partition(":")[0], {}))


def load_digits(image_size: ImageSize, seed: int = 0) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits (8x8, 17 grey levels; Alpaydin & Kaynak, UCI 1998), split 80/20."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # (N, 8, 8)
    images = np.repeat(grey[..., None], 3, axis=3)
    labels = bunch.target.astype(np.int64)
    names = tuple(str(name) for name in bunch.target_names)
    train, test = stratified_split(labels, names)
    size = height_and_width(image_size)
    return Dataset(images[train], labels[train], images[test], labels[test], names, image_size=size)


NAMED_SOURCES: dict[str, Callable[[ImageSize, int], Dataset]] = {
    "digits": load_digits,
    "cifar100": load_cifar100,
    "imagenet_r": load_imagenet_r,
    "cub200": load_cub200,
    "core50": load_core50,
}
PATH_SOURCES: dict[str, Callable[[str, ImageSize], Dataset]] = {
    "folder": load_folder,
    "domains": load_domains,
    "npz": load_npz,
    "csi": load_csi,
    "series": load_series,
}
NO_CAMERA = {"views": 0}  # of other cameras
DEFAULTS: dict[str, dict[str, Any]] = {"csi": NO_CAMERA, "series": NO_CAMERA}
PHOTOGRAPHS = {"folder", "domains", "imagenet_r", "cub200", "core50"}
