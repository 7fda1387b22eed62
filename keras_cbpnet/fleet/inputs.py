"""What a simulation of many devices is given: how many, and the features of images to teach and test them with.

Dimensions: N images, d features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import read_bundle
from firmware_host.device import Device
from firmware_host.fleet.base import check_sharing
from firmware_host.images.labelled import read_data
from keras_cbpnet.errors import UserError

__all__ = ["Array", "Features", "Say", "Settings", "read_features"]

EVERY = 2000  # images between two lines of progress
Say = Callable[[str], None]
Array = NDArray[Any]


class Settings(NamedTuple):
    """What is simulated.

    Attributes:
        devices: how many.
        rounds: of lessons and a merge each.
        images: that a device is taught a round.
        classes: that a device's images are of.
        whole: how many devices are whole.
        min_images: of a class, from which others are told of it.
        seed: of all that is drawn.
        runtime: of the whole devices.
    """

    devices: int
    rounds: int = 3
    images: int = 10
    classes: int = 2
    whole: int = 3
    min_images: int = 5
    seed: int = 0
    runtime: str = "auto"

    def check(self) -> None:
        """Raise UserError for a number out of range."""
        for name in ("devices", "rounds", "images", "classes", "whole"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}: use 1 or more")
        if self.images < self.classes:
            raise UserError(f"--images is {self.images}: use one for each of the {self.classes} classes or more")


class Features(NamedTuple):
    """Images as the backbone sees them: what devices are taught from and tested on.

    Attributes:
        train: [N, d], as the backbone stores them.
        taught: [N], their class names.
        test: [N, d].
        labels: [N], their class names.
    """

    train: Array
    taught: Array
    test: Array
    labels: Array


def read_features(bundle: Path, data: str, runtime: str, folder: Path, most_test: int, seed: int, say: Say) -> Features:
    """Return the features of a data source's images, of `most_test` test images at most.

    Args:
        bundle: of the devices.
        data: as `cbpnet evaluate` takes it.
        runtime: that computes the backbone.
        folder: an empty one.
        most_test: how many test images are drawn.
        seed: of that.
        say: is given lines of progress.

    Raises:
        DeviceError: bundle or data are damaged, or devices of the bundle cannot share.
    """
    check_sharing(read_bundle(bundle))
    parts = [read_data(data, split) for split in ("train", "test")]
    rng = np.random.default_rng(seed)
    found: list[Array] = []
    with Device.open(bundle, folder / "features", runtime) as device:
        new = {label not in device.classes for label in parts[0].labels} == {True, False}
        for what, part in zip(("train", "test"), parts):
            rows = np.arange(len(part.images))
            if what == "train" and new:  # the others are not taught
                rows = np.flatnonzero([label not in device.classes for label in part.labels])
            if what == "test" and len(rows) > most_test:
                rows = np.sort(rng.choice(rows, most_test, replace=False))

            def progress(_: str, done: int, every: int, what: str = what) -> None:
                if done == every or done % EVERY == 0:
                    say(f"features of {done} of {every} {what} images")

            found.append(device.features([part.images[row] for row in rows], progress))
            found.append(np.array([part.labels[row] for row in rows]))
    return Features(*found)
