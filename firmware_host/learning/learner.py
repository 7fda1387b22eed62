"""The learning loop: batches of real features, half of each replayed from class statistics if wanted.

Dimensions: N images, d features, C class slots, B rows of a batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np

from firmware_host.bundle import ClassStatistics, DeviceError
from firmware_host.engines.protocol import Array, Head, TrainResult
from firmware_host.learning.doubt import believed
from firmware_host.learning.guard import Guard
from firmware_host.shared.fresh import fresh_bound

if TYPE_CHECKING:
    from firmware_host.learning.working_state import WorkingState

__all__ = [
    "UNTRAINED",
    "LearnResult",
    "LearnSettings",
    "Progress",
    "Replay",
    "fresh_weights",
    "learn",
    "observe",
    "padded",
    "parse_replay",
    "train",
]

CHUNK = 50  # training steps that are judged, and rolled back, together
MAX_FAULTS = 3  # chunks in a row

Progress = Optional[Callable[[str, int, int], None]]  # what is being done, how many are done, how many there are
Replay = Callable[[int, np.random.Generator], "tuple[Array, Array]"]  # rows -> feature [rows, d], label [rows]
logger = logging.getLogger(__name__)


def parse_replay(text: str) -> tuple[str, int]:
    """Split `statistics`, `none` or `buffer:N` into the kind and N (0 without); raises DeviceError for another."""
    kind, colon, number = text.partition(":")
    if kind in ("statistics", "none") and not colon:
        return kind, 0
    if kind == "buffer" and number.isdecimal() and int(number) > 0:
        return kind, int(number)
    raise DeviceError(f"replay is {text!r}: use one of statistics, none, buffer:N (N images kept)")


@dataclass(frozen=True)
class LearnSettings:
    """How to learn.

    Args:
        replay: `statistics`: half of each batch is drawn from the class statistics of every class seen, all of which
            compete in the loss; `buffer:N`: the same, but from N features kept of the classes that have some there;
            `none`: real images only, and only their classes compete.
        epochs: passes over the images, at least 1.
        learning_rate: Adam's step size.
        batch: rows of the head's training signature.
        save_every: training steps between two saves; 0: none while training.

    Raises:
        DeviceError: for a value out of range.
    """

    replay: str
    epochs: int
    learning_rate: float
    batch: int
    save_every: int = 0

    def __post_init__(self) -> None:
        parse_replay(self.replay)
        if self.epochs < 1:
            raise DeviceError(f"epochs is {self.epochs}: use 1 or more")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise DeviceError(f"learning rate is {self.learning_rate}: use a number above 0")
        if self.save_every < 0:
            raise DeviceError(f"save-every is {self.save_every}: use a number of steps, or 0 to save at the end only")

    @property
    def replays(self) -> bool:
        """Whether old classes are replayed."""
        return self.replay != "none"

    @property
    def buffer(self) -> int:
        """How many images are kept for replay; 0 for none."""
        return parse_replay(self.replay)[1]

    @property
    def real_rows(self) -> int:
        """Rows of a batch that hold real images; never fewer than one."""
        return self.batch - self.batch // 2 if self.replays else self.batch

    @property
    def chunk(self) -> int:
        """Training steps that are judged together: no save falls between."""
        return min(CHUNK, self.save_every or CHUNK)


class LearnResult(NamedTuple):
    """Training steps made, units reset, mean loss of the last epoch, steps rolled back."""

    steps: int
    replaced: int
    loss: float
    rolled_back: int = 0


UNTRAINED = LearnResult(0, 0, math.nan)


def learn(
    working: WorkingState,
    raw: Array,
    label: Array,
    settings: LearnSettings,
    progress: Progress,
    on_sound: Callable[[int, int], None],
) -> LearnResult:
    """Take labelled images in, features [N, d] as the backbone stores them and slots [N], then train on them."""
    feature = working.dequantize(raw)
    working.unmask(np.unique(label))
    working.observe(feature, label, settings.batch)
    working.keep(raw, label, settings.buffer)
    if not working.trains:
        return UNTRAINED

    def replay(rows: int, rng: np.random.Generator) -> tuple[Array, Array]:
        return working.replay(rows, rng, settings.buffer > 0)

    result = train(working.head, working.statistics, feature, label, settings, working.rng, progress, replay, on_sound)
    working.rolled_back += result.rolled_back
    return result


def observe(head: Head, statistics: ClassStatistics, feature: Array, label: Array, batch: int) -> None:
    """Take each real image once, feature [N, d] and label [N], into the head's class means and the statistics."""
    for start in range(0, len(label), batch):
        rows = slice(start, start + batch)
        head.observe(*padded(feature[rows], label[rows], batch))
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
    replay: Replay | None = None,
    on_sound: Callable[[int, int], None] | None = None,
) -> LearnResult:
    """Train the head on real images, feature [N, d] float32 and label [N], for some epochs of shuffled batches.

    Every random number (order, replay, weights of reset units) comes from `rng`. Replayed rows come from `replay`, by
    default the statistics. The steps are judged a chunk at a time: one that breaks the head is rolled back, logged and
        counted; after one that does not, `on_sound(steps, rolled back)` is called. Raises DeviceError when learning
        diverges: too many chunks in a row, or all of them, are rolled back.
    """
    mask = np.zeros(len(statistics.count), np.float32)  # (C,)
    mask[statistics.seen if settings.replays else np.unique(label)] = 1.0
    total = settings.epochs * -(-len(label) // settings.real_rows)
    guard = Guard(head, statistics, accuracy=settings.replays)
    chunk: list[TrainResult] = []
    losses: list[float] = []
    steps = replaced = faults = rolled_back = 0
    for rows in _epochs(head, feature, label, settings, rng):
        batch = _batch(feature[rows], label[rows], settings, rng, replay or _from(statistics))
        chunk.append(head.train(*batch, mask, settings.learning_rate, fresh_weights(feature.shape[1], rng)))
        steps += 1
        if progress:
            progress("training", steps, total)
        if len(chunk) < settings.chunk and steps < total:
            continue
        reason = guard.judge([result.loss for result in chunk])
        if reason is None:
            faults = 0
            losses += [result.loss for result in chunk]
            replaced += sum(result.replaced >= 0 for result in chunk)
        else:
            faults, rolled_back = faults + 1, rolled_back + len(chunk)
            if faults == MAX_FAULTS or rolled_back == total:
                raise DeviceError(
                    f"learning diverged at step {steps} ({reason}): use a lower learning rate than "
                    f"{settings.learning_rate}"
                )
            logger.warning("training steps %d to %d are rolled back: %s", steps - len(chunk) + 1, steps, reason)
        chunk = []
        if reason is None and on_sound:
            on_sound(steps, rolled_back)
    last = losses[-(total // settings.epochs) :]
    return LearnResult(steps, replaced, sum(last) / len(last), rolled_back)


def fresh_weights(d: int, rng: np.random.Generator) -> Array:
    """Draw the incoming weights [d] of a unit that may be reset, from the distribution that w1 starts from."""
    limit = fresh_bound(d)
    return rng.uniform(-limit, limit, d).astype(np.float32)


def _from(statistics: ClassStatistics) -> Replay:
    return lambda rows, rng: statistics.sample(rng, rows)


def _epochs(
    head: Head, feature: Array, label: Array, settings: LearnSettings, rng: np.random.Generator
) -> Iterator[Array]:
    """Give the rows of every batch; those of doubted labels come out of it, looked at after epochs 1, 2, 4, 8, ..."""
    trusted = np.ones(len(label), bool)
    for epoch in range(settings.epochs):
        if settings.replays and epoch and epoch & (epoch - 1) == 0:
            trusted[:] = False
            trusted[believed(head, feature, label)] = True
        for rows in _shuffled(len(label), settings.real_rows, rng):
            yield rows[trusted[rows]]


def _shuffled(count: int, rows: int, rng: np.random.Generator) -> Iterator[Array]:
    order = rng.permutation(count)
    for start in range(0, count, rows):
        yield order[start : start + rows]


def _batch(
    feature: Array, label: Array, settings: LearnSettings, rng: np.random.Generator, replay: Replay
) -> tuple[Array, Array]:
    if settings.replays:
        replayed, slots = replay(settings.batch // 2, rng)
        feature, label = np.concatenate([feature, replayed]), np.concatenate([label, slots])
    return padded(feature, label, settings.batch)


def padded(feature: Array, label: Array, batch: int) -> tuple[Array, Array]:
    """Return feature (B, d) and label (B,) int32, filled up with empty rows, label -1."""
    empty = batch - len(label)
    rows = np.pad(feature, ((0, empty), (0, 0))).astype(np.float32)
    return rows, np.pad(label, (0, empty), constant_values=-1).astype(np.int32)
