"""The learning loop: batches of real features, half of each replayed from class statistics if wanted.

Dimensions: N images, d features, C class slots, B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from firmware_host.bundle import ClassStatistics, DeviceError
from firmware_host.protocol import Array, Head

__all__ = ["REPLAYS", "LearnResult", "LearnSettings", "Progress", "observe", "train"]

REPLAYS = ("statistics", "none")

Progress = Optional[Callable[[str, int, int], None]]  # what is being done, how many are done, how many there are


@dataclass(frozen=True)
class LearnSettings:
    """How to learn.

    Args:
        replay: `statistics`: half of each batch is drawn from the class statistics of every class seen, all of which
            compete in the loss; `none`: real images only, and only their classes compete.
        epochs: passes over the images, at least 1.
        learning_rate: Adam's step size.
        batch: rows of the head's training signature.

    Raises DeviceError for a value out of range.
    """

    replay: str
    epochs: int
    learning_rate: float
    batch: int

    def __post_init__(self) -> None:
        if self.replay not in REPLAYS:
            raise DeviceError(f"replay is {self.replay!r}: use one of {', '.join(REPLAYS)}")
        if self.epochs < 1:
            raise DeviceError(f"epochs is {self.epochs}: use 1 or more")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise DeviceError(f"learning rate is {self.learning_rate}: use a number above 0")

    @property
    def real_rows(self) -> int:
        """Rows of a batch that hold real images; never fewer than one."""
        return self.batch - self.batch // 2 if self.replay == "statistics" else self.batch


class LearnResult(NamedTuple):
    """Training steps made, units reborn, mean loss of the last epoch."""

    steps: int
    replaced: int
    loss: float


def observe(head: Head, statistics: ClassStatistics, feature: Array, label: Array, batch: int) -> None:
    """Take each real image once, feature [N, d] and label [N], into the head's class means and the statistics."""
    for start in range(0, len(label), batch):
        rows = slice(start, start + batch)
        head.observe(*_padded(feature[rows], label[rows], batch))
    for row, slot in zip(feature, label):
        statistics.update(row, int(slot))


def train(
    head: Head,
    statistics: ClassStatistics,
    feature: Array,
    label: Array,
    settings: LearnSettings,
    rng: np.random.Generator,
    progress: Progress = None,
) -> LearnResult:
    """Train the head on real images, feature [N, d] float32 and label [N], for some epochs of shuffled batches.

    Every random number (order, replay, weights of reborn units) comes from `rng`. Raises DeviceError when the loss is
    no longer a number.
    """
    d = feature.shape[1]
    limit = math.sqrt(6.0 / d)  # of the uniform distribution that w1 starts from
    competing = statistics.seen if settings.replay == "statistics" else np.unique(label)
    mask = np.zeros(len(statistics.count), np.float32)  # (C,)
    mask[competing] = 1.0
    per_epoch = -(-len(label) // settings.real_rows)
    losses: list[float] = []
    step, replaced = 0, 0
    for _ in range(settings.epochs):
        losses = []
        for rows in _shuffled(len(label), settings.real_rows, rng):
            batch = _batch(statistics, feature[rows], label[rows], settings, rng)
            fresh = rng.uniform(-limit, limit, d).astype(np.float32)  # (d,)
            result = head.train(*batch, mask, settings.learning_rate, fresh)
            step += 1
            if not math.isfinite(result.loss):
                raise DeviceError(
                    f"learning diverged at step {step} (loss {result.loss}): use a lower learning rate than "
                    f"{settings.learning_rate}"
                )
            losses.append(result.loss)
            replaced += result.replaced >= 0
            if progress:
                progress("training", step, settings.epochs * per_epoch)
    return LearnResult(step, replaced, sum(losses) / len(losses))


def _shuffled(count: int, rows: int, rng: np.random.Generator) -> Iterator[Array]:
    order = rng.permutation(count)
    for start in range(0, count, rows):
        yield order[start : start + rows]


def _batch(
    statistics: ClassStatistics, feature: Array, label: Array, settings: LearnSettings, rng: np.random.Generator
) -> tuple[Array, Array]:
    if settings.replay == "statistics":
        replayed, slots = statistics.sample(rng, settings.batch // 2)
        feature, label = np.concatenate([feature, replayed]), np.concatenate([label, slots])
    return _padded(feature, label, settings.batch)


def _padded(feature: Array, label: Array, batch: int) -> tuple[Array, Array]:
    """Return feature (B, d) and label (B,) int32, filled up with empty rows, label -1."""
    empty = batch - len(label)
    rows = np.pad(feature, ((0, empty), (0, 0))).astype(np.float32)
    return rows, np.pad(label, (0, empty), constant_values=-1).astype(np.int32)
