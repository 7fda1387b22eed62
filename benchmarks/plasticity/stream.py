"""The stream that costs plasticity: tasks of ten classes drawn with replacement, labels used again, nothing reset."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_host.shared.fresh import fresh_bound
from keras_cbpnet.errors import UserError

WAYS = 10  # classes a task
SHOTS = 50  # training images a class
EPOCHS = 5
BATCH = 16

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

# Dimensions: N images, d feature size, S steps of a task, B rows of a step.


class Features(NamedTuple):
    """A feature file: x_train [N, d], y_train [N], x_test, y_test."""

    x_train: Floats
    y_train: Ints
    x_test: Floats
    y_test: Ints


class Batches(NamedTuple):
    """One task.

    Attributes:
        rows: of x_train, int32 [S, B]; an empty row repeats row 0 of the file.
        label: in 0..9, int32 [S, B]; -1 in an empty row.
        fresh: incoming weights for a unit that is reset, float32 [S, d].
        test_rows: of x_test, int32 [T].
        test_label: in 0..9, int32 [T].
    """

    rows: Ints
    label: Ints
    fresh: Floats
    test_rows: Ints
    test_label: Ints


def load_features(path: Path) -> Features:
    """Return the features in `path`, standardised by those of the training images; UserError as `load_raw`."""
    raw = load_raw(path)
    mean = raw.x_train.mean(axis=0, dtype=np.float64)
    scale = np.maximum(raw.x_train.std(axis=0, dtype=np.float64), 1e-6)
    x_train, x_test = (((x - mean) / scale).astype(np.float32) for x in (raw.x_train, raw.x_test))
    return raw._replace(x_train=x_train, x_test=x_test)


def load_raw(path: Path, ways: int = WAYS, shots: int = SHOTS) -> Features:
    """Return the features in `path` as they are.

    Args:
        path: the file.
        ways: classes that it must hold at least.
        shots: training images that each of them must have at least.

    Raises:
        UserError: no such file, no .npz file, an array is missing or of another shape, or the classes are too few.
    """
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in Features._fields if name in file}
    except FileNotFoundError:
        raise UserError(f"--features {path}: no such file") from None
    except (ValueError, zipfile.BadZipFile, EOFError, AttributeError):
        raise UserError(f"--features {path}: not a readable .npz file") from None
    if missing := [name for name in Features._fields if name not in arrays]:
        raise UserError(f"--features {path}: holds no {', '.join(missing)}; it needs {', '.join(Features._fields)}")
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim != 2 or y.shape != x.shape[:1] or x.shape[1] != arrays["x_train"].shape[1]:
            raise UserError(
                f"--features {path}: x_{part} {x.shape} and y_{part} {y.shape} do not fit; needed are [N, d] and [N]"
            )
        if y.dtype.kind not in "iu":
            raise UserError(f"--features {path}: y_{part} holds {y.dtype}; it needs integers")
        if x.dtype.kind not in "fiu" or not np.isfinite(x).all():
            raise UserError(f"--features {path}: x_{part} holds {x.dtype}, or values that are not finite")
    classes, counts = np.unique(arrays["y_train"], return_counts=True)
    if len(classes) < ways or counts.min() < shots:
        raise UserError(
            f"--features {path}: {len(classes)} classes of at least {counts.min() if len(counts) else 0} training "
            f"images; {ways} of at least {shots} are needed"
        )
    if absent := sorted(set(classes.tolist()) - set(arrays["y_test"].tolist())):
        raise UserError(f"--features {path}: no test image of class {absent[0]}")
    return Features(**arrays)


class Stream:
    """The tasks of one seed, each drawn on its own: task t is the same whatever was drawn before.

    Args:
        features: to draw from.
        seed: of the stream.
    """

    def __init__(self, features: Features, seed: int) -> None:
        self.seed = seed
        self.width = features.x_train.shape[1]
        classes = np.unique(features.y_train)
        self._train = [np.flatnonzero(features.y_train == c).astype(np.int32) for c in classes]
        self._test = [np.flatnonzero(features.y_test == c).astype(np.int32) for c in classes]

    def first_weights(self, units: int) -> Floats:
        """Return w1 before the first step, U(-s, s) with s = sqrt(6 / d), float32 [d, units]."""
        bound = fresh_bound(self.width)
        return np.random.default_rng((self.seed, 1)).uniform(-bound, bound, (self.width, units)).astype(np.float32)

    def task(self, index: int) -> Batches:
        """Return task `index`."""
        rng = np.random.default_rng((self.seed, 0, index))
        drawn = rng.choice(len(self._train), WAYS, replace=False)
        rows = np.concatenate([rng.choice(self._train[c], SHOTS, replace=False) for c in drawn])
        label = np.repeat(np.arange(WAYS, dtype=np.int32), SHOTS)
        steps = -(-len(rows) // BATCH)
        order = np.full((EPOCHS, steps * BATCH), -1)
        for epoch in order:
            epoch[: len(rows)] = rng.permutation(len(rows))
        order = order.reshape(EPOCHS * steps, BATCH)
        empty = order < 0
        bound = fresh_bound(self.width)
        fresh = rng.uniform(-bound, bound, (len(order), self.width)).astype(np.float32)
        test = [self._test[c] for c in drawn]
        test_label = np.repeat(np.arange(WAYS, dtype=np.int32), [len(part) for part in test])
        return Batches(
            np.where(empty, 0, rows[order]), np.where(empty, -1, label[order]), fresh, np.concatenate(test), test_label
        )
