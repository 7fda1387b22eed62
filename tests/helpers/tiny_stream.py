"""A run small enough for a test: a backbone of 5 tokens with random weights on images of four colours."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from keras_cbpnet import presets
from keras_cbpnet.config import BackboneConfig, TrainConfig

# Dimensions: N images.

CLASSES = ("red", "green", "blue", "grey")
COLOURS = np.array([[190, 70, 60], [70, 180, 80], [60, 80, 200], [140, 140, 140]])
TRAIN, TEST = 8, 5  # images of a class


class KilledError(Exception):
    """What stands for a kill."""


class TinyStream(NamedTuple):
    """Files of a folder: weights of the preset `tiny`, and a data set."""

    folder: Path

    def settings(self, **changes: Any) -> dict[str, Any]:
        """What `TrainConfig` takes."""
        files = {"weights": str(self.folder / "tiny.npz"), "dataset": f"npz:{self.folder / 'data.npz'}"}
        sizes = {"tasks": 2, "epochs": 1, "head_epochs": 2, "batch": 4, "units": 6, "seed": 3, "qat": False}
        return {"preset": "tiny", **files, **sizes, **changes}

    def config(self, **changes: Any) -> TrainConfig:
        return TrainConfig(**self.settings(**changes))

    def arguments(self, **changes: Any) -> list[str]:
        """The same for the command line."""
        words = []
        for name, value in self.settings(**changes).items():
            option = name.replace("_", "-")
            words += [f"--{option}" if value else f"--no-{option}"] if isinstance(value, bool) else []
            words += [f"--{option}", str(value)] if not isinstance(value, bool) else []
        return words


@contextlib.contextmanager
def opened(folder: Path, tiny: BackboneConfig) -> Iterator[TinyStream]:
    """The files in `folder`, and meanwhile a preset `tiny`."""
    import keras

    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.weights import save_weights

    keras.utils.set_random_seed(5)
    backbone = Backbone(tiny)
    backbone.build()
    save_weights(backbone, folder / "tiny.npz")
    write(folder / "data.npz")
    with mock.patch.dict(presets.PRESETS, tiny=lambda: presets.Preset("tiny", tiny)):
        yield TinyStream(folder)


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` noisy images of each class, uint8 [N, 16, 16, 3], and their labels."""
    label = np.repeat(np.arange(len(CLASSES)), count)
    noise = np.random.default_rng(seed).normal(0, 30, (len(label), 16, 16, 3))
    return np.clip(COLOURS[label][:, None, None] + noise, 0, 255).astype(np.uint8), label


def write(path: Path, train: int = TRAIN) -> Path:
    """Write an `npz:` data set with `train` training images of each class."""
    (x_train, y_train), (x_test, y_test) = images(train, 1), images(TEST, 2)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, class_names=np.array(CLASSES))
    return path


def killed_at(line: str) -> Any:
    """`progress` that is killed as soon as it shows what begins with `line`."""

    def progress(shown: str) -> None:
        if shown.startswith(line):
            raise KilledError(shown)

    return progress


def copied_at(line: str, run: Path, copy: Path) -> Any:
    """`progress` that copies the folder `run` as soon as it shows what begins with `line`: what a kill would leave."""

    def progress(shown: str) -> None:
        if shown.startswith(line):
            shutil.copytree(run, copy)

    return progress
