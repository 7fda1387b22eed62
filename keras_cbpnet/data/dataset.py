"""A labelled image data set, its checks, and the fixed split of sources that have no test set."""

# N images, H height, W width

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import Input
from firmware_host.shared.folders import describe
from firmware_host.shared.names import distinct_names
from firmware_host.shared.sensors.readers import IMAGE
from keras_cbpnet.data.files import user_errors
from keras_cbpnet.data.images import ImageFiles, StoredImages
from keras_cbpnet.data.preprocessing import resize_images
from keras_cbpnet.errors import UserError

__all__ = ["SPLIT_SEED", "TEST_SHARE", "Dataset", "stratified_split"]

TEST_SHARE = 0.2
SPLIT_SEED = 0  # not the run's seed: every run is tested on the same images


@dataclass(frozen=True)
class Dataset:
    """Images and labels; checked on construction (`UserError` names what is wrong).

    Attributes:
        x_train: uint8 [N, H, W, 3], RGB 0..255: an array, or files that are decoded when they are indexed.
        y_train: int64 [N], index into `class_names`.
        x_test: uint8, as `x_train`.
        y_test: int64, as `y_train`.
        class_names: one name per class, all different; every class has training and test images.
        domain_names: one name per domain (place, camera, style), all different; empty where there are none.
        domain_train: int64 [N], index into `domain_names`; None where there are no domains.
        domain_test: int64, as `domain_train`; None also where all domains are tested on the same images. Every class
            has images in every domain, of each part that has domains.
        image_size: (height, width) that `images` gives them at; None for that of `x_train`.
        notes: what lies beside the data and is not used.
        input: what the images are made of.
    """

    x_train: StoredImages
    y_train: NDArray[np.int64]
    x_test: StoredImages
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]
    domain_names: tuple[str, ...] = ()
    domain_train: NDArray[np.int64] | None = None
    domain_test: NDArray[np.int64] | None = None
    image_size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    input: Input = IMAGE

    def describe(self) -> str:
        """Return a line that says how many images of which classes there are, and what is not used."""
        images = np.bincount(self.y_train, minlength=len(self.class_names))
        training = describe("training data", dict(zip(self.class_names, images.tolist(), strict=True)))
        return "; ".join((training, f"{len(self.y_test)} images to test on", *self.notes))

    def images(self, part: str, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Return the images `rows` of `part`, `train` or `test`, uint8 [n, H, W, 3], at `image_size`."""
        stored = self.stored(part)
        return resize_images(stored[rows], self.image_size or stored.shape[1:3])

    def stored(self, part: str) -> StoredImages:
        """Return the images of `part`, `train` or `test`, as they are stored."""
        return self.x_train if part == "train" else self.x_test

    def check(self, say: Callable[[str], None] = lambda line: None) -> None:
        """Decode every image file once, so that a damaged one is known before hours of work.

        Args:
            say: takes a line of progress, about one for each tenth of many images.

        Raises:
            UserError: a file is not an image, or damaged.
        """
        for part in ("train", "test"):
            stored = self.stored(part)
            if isinstance(stored, ImageFiles):
                stored.check(partial(_say, say, part))

    def contents(self, part: str) -> bytes | memoryview:
        """Return bytes that tell the stored images of `part`, `train` or `test`, from any others.

        Raises:
            UserError: a file is not an image, or damaged.
        """
        stored = self.stored(part)
        return stored.check() if isinstance(stored, ImageFiles) else np.ascontiguousarray(stored).data

    def hashes(self, part: str) -> NDArray[np.uint8]:
        """Return the SHA-256 of each stored image of `part`, `train` or `test`, uint8 [N, 32]; no file is decoded.

        Raises:
            UserError: a file cannot be read.
        """
        stored = self.stored(part)
        if isinstance(stored, ImageFiles):
            return stored.hashes()
        digests = b"".join(hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in stored)
        return np.frombuffer(digests, np.uint8).reshape(len(stored), -1)

    def with_training_rows(self, rows: NDArray[np.integer[Any]]) -> Dataset:
        """Return the data set with the training images `rows` alone, at least one per class, and without domains."""
        x = self.x_train.subset(rows) if isinstance(self.x_train, ImageFiles) else self.x_train[rows]
        few = {"x_train": x, "y_train": self.y_train[rows]}
        return replace(self, **few, domain_names=(), domain_train=None, domain_test=None)

    def resized(self) -> Dataset:
        """Return the data set with all its images in memory, at `image_size`."""
        size = self.image_size or self.x_train.shape[1:3]
        x_train, x_test = (resize_images(x[:], size) for x in (self.x_train, self.x_test))
        return replace(self, x_train=x_train, x_test=x_test, image_size=None)

    def __post_init__(self) -> None:
        if not self.class_names:
            raise UserError("the data set has no classes; give at least one")
        _check_names("class", self.class_names)
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            _check_images(part, x)
            _check_numbers(part, "class", y, len(x), self.class_names)
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise UserError(
                f"x_train has images of shape {self.x_train.shape[1:]}, x_test of {self.x_test.shape[1:]}; "
                "they must have one size"
            )
        self._check_domains()

    def _check_domains(self) -> None:
        _check_names("domain", self.domain_names)
        if (self.domain_train is not None) != bool(self.domain_names):
            raise UserError(f"the data set has {len(self.domain_names)} domain names; give domain_train with them only")
        if self.domain_test is not None and self.domain_train is None:
            raise UserError("the data set has domain_test without domain_train; give both, or domain_train alone")
        parts = (("train", self.domain_train, self.y_train), ("test", self.domain_test, self.y_test))
        for part, domains, labels in parts:
            if domains is not None:
                _check_numbers(part, "domain", domains, len(labels), self.domain_names)
                _check_cells(part, domains, labels, self.domain_names, self.class_names)


def _say(say: Callable[[str], None], part: str, line: str) -> None:
    say(f"{part} data: {line}")


def stratified_split(
    labels: NDArray[np.int64], class_names: Sequence[str], seed: int = SPLIT_SEED
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split every class 80/20 into training and test images, at least one each.

    The draw of a class depends on the seed, its name and its number of images only, so adding a class moves no image
    of another one.

    Args:
        labels: int64 [N], index into `class_names`.
        class_names: one name per class.
        seed: seed of the draw.

    Returns:
        Two ascending index arrays, training and test.

    Raises:
        UserError: a class has fewer than two images.
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


def _check_names(kind: str, names: tuple[str, ...]) -> None:
    with user_errors():
        distinct_names(names, kind)


def _check_images(part: str, images: StoredImages) -> None:
    if images.dtype != np.uint8:
        raise UserError(f"x_{part} has dtype {images.dtype}; images must be uint8, RGB 0..255")
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise UserError(f"x_{part} has shape {images.shape}; images must be [N, height, width, 3]")


def _check_numbers(part: str, kind: str, numbers: NDArray[np.int64], images: int, names: tuple[str, ...]) -> None:
    """Check class or domain numbers: one per image, in range, every class or domain there."""
    array, noun, plural = ("y", "label", "classes") if kind == "class" else ("domain", "domain", "domains")
    if numbers.dtype != np.int64 or numbers.shape != (images,):
        raise UserError(
            f"{array}_{part} has dtype {numbers.dtype} and shape {numbers.shape}; "
            f"{images} images need one int64 {noun} each"
        )
    wrong = numbers[(numbers < 0) | (numbers >= len(names))]
    if len(wrong):
        raise UserError(
            f"{array}_{part} contains {noun} {wrong[0]}; {len(names)} {plural} have numbers 0..{len(names) - 1}"
        )
    empty = np.flatnonzero(np.bincount(numbers, minlength=len(names)) == 0)
    if len(empty):
        raise UserError(f"{kind} '{names[empty[0]]}' has no {part} images; add some or remove the {kind}")


def _check_cells(
    part: str,
    domains: NDArray[np.int64],
    labels: NDArray[np.int64],
    domain_names: tuple[str, ...],
    class_names: tuple[str, ...],
) -> None:
    count = len(class_names)
    empty = np.flatnonzero(np.bincount(domains * count + labels, minlength=len(domain_names) * count) == 0)
    if len(empty):
        domain, label = divmod(int(empty[0]), count)
        raise UserError(
            f"class '{class_names[label]}' has no {part} images in domain '{domain_names[domain]}'; "
            "all domains need the same classes"
        )
