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
from firmware_host.learning.batches import Rows, drawn
from firmware_host.learning.consolidation import WAYS, consolidate
from firmware_host.learning.doubt import believed
from firmware_host.learning.far_lesson import look_at
from firmware_host.learning.guard import Guard
from firmware_host.learning.replay import Replay

if TYPE_CHECKING:
    from firmware_host.learning.working_state import WorkingState

__all__ = [
    "UNTRAINED",
    "LearnResult",
    "LearnSettings",
    "Progress",
    "learn",
    "observe",
    "parse_replay",
    "train",
]

CHUNK = 50  # training steps that are judged, and rolled back, together
MAX_FAULTS = 3  # chunks in a row

Progress = Optional[Callable[[str, int, int], None]]  # what is being done, how many are done, how many there are
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
        consolidate: `foster`: its two phases in place of training steps, see `consolidation`; None: training steps.

    Raises:
        DeviceError: for a value out of range.
    """

    replay: str
    epochs: int
    learning_rate: float
    batch: int
    save_every: int = 0
    consolidate: str | None = None

    def __post_init__(self) -> None:
        parse_replay(self.replay)
        if self.epochs < 1:
            raise DeviceError(f"epochs is {self.epochs}: use 1 or more")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise DeviceError(f"learning rate is {self.learning_rate}: use a number above 0")
        if self.save_every < 0:
            raise DeviceError(f"save-every is {self.save_every}: use a number of steps, or 0 to save at the end only")
        if self.consolidate is None:
            return
        if self.consolidate not in WAYS:
            raise DeviceError(f"consolidate is {self.consolidate!r}: use {', '.join(WAYS)}")
        if self.replay != "statistics":
            raise DeviceError(f"replay is {self.replay}: consolidation draws old classes from statistics, use that")
        if self.save_every:
            raise DeviceError(f"save-every is {self.save_every}: consolidation has nothing to save on its way, use 0")

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
    working.unmask(np.unique(label))
    if len(label) > 1:
        working.said = look_at(working, raw, label)
    feature = working.dequantize(raw)
    working.observe(feature, label, settings.batch)
    working.keep(raw, label, settings.buffer)
    if settings.consolidate is not None:
        done = consolidate(working, feature, label, settings.epochs, settings.learning_rate, progress)
        return LearnResult(done.steps, 0, done.loss)
    if not working.trains:
        return UNTRAINED

    replay = working.replay(settings.buffer > 0)
    result = train(working.head, working.statistics, feature, label, settings, working.rng, progress, replay, on_sound)
    working.rolled_back += result.rolled_back
    return result


def observe(head: Head, statistics: ClassStatistics, feature: Array, label: Array, batch: int) -> None:
    """Take each real image once, feature [N, d] and label [N], into the head's class means and the statistics."""
    rows = Rows(batch, feature.shape[1])
    for start in range(0, len(label), batch):
        part = slice(start, start + batch)
        head.observe(*rows.fill((feature[part], label[part])))
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
    replayed = (replay or Replay(statistics)) if settings.replays else None
    for batch, fresh in _batches(head, feature, label, settings, rng, replayed):
        chunk.append(head.train(*batch, mask, settings.learning_rate, fresh))
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


def _batches(
    head: Head, feature: Array, label: Array, settings: LearnSettings, rng: np.random.Generator, replay: Replay | None
) -> Iterator[tuple[tuple[Array, Array], Array]]:
    """Yield every batch and its fresh weights; doubted labels come out, looked at after epochs 1, 2, 4, 8, ..."""
    (images, d), trusted = feature.shape, np.ones(len(label), bool)
    doubted = False
    batch = Rows(settings.batch, d)
    replayed = settings.batch // 2
    for step in drawn(images, d, settings.real_rows, settings.epochs, replay, replayed, settings.chunk, rng):
        if settings.replays and step.epoch and step.epoch & (step.epoch - 1) == 0:
            trusted[:] = False
            trusted[believed(head, feature, label)] = True
            doubted = not trusted.all()
        rows = step.rows[trusted[step.rows]] if doubted else step.rows
        yield batch.fill((feature[rows], label[rows]), *step.replayed), step.fresh
