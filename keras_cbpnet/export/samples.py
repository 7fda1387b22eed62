"""The images of a run that its conversion takes ranges from and is checked on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data import Task

__all__ = ["held_out", "representative", "sample"]

REPRESENTATIVE = 200
WORK = 5e11  # multiply-adds of the held-out images in all, so that a check takes a minute or two, whatever the backbone


def representative(tasks: Sequence[Task], seed: int) -> NDArray[np.uint8]:
    """Return training images of `tasks`, uint8 [N, H, W, 3], that stand for all of them."""
    return sample(tasks, "train", REPRESENTATIVE, seed)[0]


def held_out(tasks: Sequence[Task], seed: int, multiply_adds: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return test images of `tasks`, uint8 [N, H, W, 3], and their slots [N]: all, or as many as time allows.

    Args:
        tasks: that the host trained.
        seed: of the choice.
        multiply_adds: that an image costs.
    """
    return sample(tasks, "test", max(1, int(WORK // multiply_adds)), seed)


def sample(tasks: Sequence[Task], part: str, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return up to `count` images of `part`, `train` or `test`, uint8 [N, H, W, 3], and their slots [N]."""
    rows, slots = (np.concatenate([getattr(task, name) for task in tasks]) for name in (f"{part}_rows", f"y_{part}"))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    return tasks[0].data.images(part, rows[chosen]), slots[chosen]
