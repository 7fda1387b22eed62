"""A labelled image data set in memory, its checks, and the fixed split of sources that have no test set."""

# N images, H height, W width

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.errors import UserError

__all__ = ["SPLIT_SEED", "TEST_SHARE", "Dataset", "stratified_split"]

TEST_SHARE = 0.2
SPLIT_SEED = 0  # not the run's seed: every run is tested on the same images


@dataclass(frozen=True)
class Dataset:
    """Images and labels; checked on construction (`UserError` names what is wrong).

    Attributes:
        x_train: uint8 [N, H, W, 3], RGB 0..255.
        y_train: int64 [N], index into `class_names`.
        x_test: uint8, as `x_train`.
        y_test: int64, as `y_train`.
        class_names: One name per class, all different; every class has training and test images.
    """

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_names(self.class_names)
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            _check_images(part, x)
            _check_labels(part, y, len(x), self.class_names)
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise UserError(
                f"x_train has images of shape {self.x_train.shape[1:]}, x_test of {self.x_test.shape[1:]}; "
                "they must have one size"
            )


def stratified_split(
    labels: NDArray[np.int64], class_names: Sequence[str], seed: int = SPLIT_SEED
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits every class 80/20 into training and test images, at least one each.

    The draw of a class depends on the seed, its name and its number of images only, so adding a class moves no image
    of another one.

    Args:
        labels: int64 [N], index into `class_names`.
        class_names: One name per class.
        seed: Seed of the draw.

    Returns:
        Two ascending index arrays, training and test.

    Raises:
        UserError: A class has fewer than two images.
    """
    train, test = [], []
    for index, name in enumerate(class_names):
        members = np.flatnonzero(labels == index)
        if len(members) < 2:
            raise UserError(
                f"class '{name}' has {len(members)} image(s); "
                "a split into training and test images needs at least 2, add images or remove the class"
            )
        order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(members)
        count = max(1, round(TEST_SHARE * len(members)))
        test.append(order[:count])
        train.append(order[count:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _check_names(names: tuple[str, ...]) -> None:
    if not names:
        raise UserError("the data set has no classes; give at least one")
    for name in names:
        if not name or name != name.strip() or "\n" in name or "\r" in name:
            raise UserError(f"class name {name!r} is empty or has blanks around it or a line break; rename the class")
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise UserError(f"class name '{duplicates[0]}' appears more than once; names must be different")


def _check_images(part: str, images: NDArray[np.uint8]) -> None:
    if images.dtype != np.uint8:
        raise UserError(f"x_{part} has dtype {images.dtype}; images must be uint8, RGB 0..255")
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise UserError(f"x_{part} has shape {images.shape}; images must be [N, height, width, 3]")


def _check_labels(part: str, labels: NDArray[np.int64], images: int, names: tuple[str, ...]) -> None:
    if labels.dtype != np.int64 or labels.shape != (images,):
        raise UserError(
            f"y_{part} has dtype {labels.dtype} and shape {labels.shape}; {images} images need one int64 label each"
        )
    wrong = labels[(labels < 0) | (labels >= len(names))]
    if len(wrong):
        raise UserError(f"y_{part} contains label {wrong[0]}; {len(names)} classes have labels 0..{len(names) - 1}")
    empty = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
    if len(empty):
        raise UserError(f"class '{names[empty[0]]}' has no {part} images; add some or remove the class")
