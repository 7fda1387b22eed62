"""Data sources by name: what `--dataset` accepts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras_cbpnet.errors import UserError
from keras_cbpnet.tables import NAMED_SOURCES, PATH_SOURCES

if TYPE_CHECKING:
    from keras_cbpnet.data.dataset import Dataset
    from keras_cbpnet.data.preprocessing import ImageSize

__all__ = [
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
        return lambda image_size, seed: PATH_SOURCES[kind](path, image_size)  # type: ignore[no-any-return]
    if spec in NAMED_SOURCES:
        found: Callable[[ImageSize, int], Dataset] = NAMED_SOURCES[spec]
        return found
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


NO_CAMERA = {"views": 0}  # of other cameras
DEFAULTS: dict[str, dict[str, Any]] = {"csi": NO_CAMERA, "series": NO_CAMERA}
PHOTOGRAPHS = {"folder", "domains", "imagenet_r", "cub200", "core50"}
