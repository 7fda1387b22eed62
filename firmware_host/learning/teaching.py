"""Learning unattended: labels come one at a time, unbalanced, and each is worth a number of training steps.

Dimensions: d features, C class slots, B rows of a batch, p images that were taught last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from firmware_host.bundle import ClassStatistics
from firmware_host.engines.protocol import Array
from firmware_host.learning.batches import Rows, fresh_weights
from firmware_host.learning.doubt import PATIENCE, doubts
from firmware_host.learning.far_lesson import look_back
from firmware_host.learning.guard import Guard
from firmware_host.learning.learner import LearnSettings
from firmware_host.learning.working_state import WorkingState
from firmware_host.shared.statistics import evenly

__all__ = ["YOUNG", "Lesson", "steps_for", "teach"]

# Found on digits and CIFAR-100, see benchmarks/unattended.py and its notes: more steps of a smaller size keep the old
# classes where they are.
YOUNG = 16  # images until a class counts as settled
STEPS_YOUNG, STEPS_SETTLED = 16, 2
YOUNG_SHARE = 0.3  # of a batch, at least, for the classes that are new together: else few images of one are outnumbered
RATE_SHARE = 0.3  # of the learning rate of a whole data set


class Lesson(NamedTuple):
    """What one label brought: training steps, units reset, mean loss.

    A label that is doubted brings no step, and a loss that is not a number. `fault` says why all of it must be rolled
    back (None: it is sound), `rolled_back` how many steps that are.
    """

    steps: int
    replaced: int
    loss: float
    fault: str | None = None
    rolled_back: int = 0

    def record(self) -> dict[str, Any]:
        """Return what `Device.teach` returns."""
        return {
            "images": 1,
            "steps": self.steps,
            "replaced": self.replaced,
            "loss": self.loss if self.steps else None,
            "rolled_back": self.rolled_back,
        }


def steps_for(count: int) -> int:
    """Return the training steps that the `count`-th image of a class is worth: many while the class is new."""
    return STEPS_YOUNG if count <= YOUNG else STEPS_SETTLED


def teach(working: WorkingState, raw: Array, value: Array, slot: int, settings: LearnSettings) -> Lesson:
    """Take in one image with its slot: class means at once, then training steps on the last images and replayed ones.

    Args:
        working: what the device knows; changed in place. Where a fault is found, the caller rolls all of it back.
        raw: feature [d] as the backbone stores it; kept among the last images.
        value: the same, float32.
        slot: of the image's class, which has its name already.
        settings: batch, learning rate and kind of replay; epochs are not used.
    """
    working.unmask(np.array([slot]))
    believe = _believe(working, value, slot)
    working.observe(value[None], np.array([slot], np.int32), settings.batch)
    if believe:
        working.pending = _with(working.pending, raw, slot, settings.real_rows)
        look_back(working)
    if working.pending is None or not working.trains:
        return Lesson(0, 0, float("nan"))
    feature, label = working.dequantize(working.pending[0]), working.pending[1]  # (p, d), (p,)
    guard = Guard(working.head, working.statistics, accuracy=settings.replays)
    mask = np.zeros(len(working.statistics.count), np.float32)  # (C,)
    mask[working.statistics.seen if settings.replays else np.unique(label)] = 1.0
    steps = steps_for(int(working.statistics.count[slot])) if believe else 0
    batch, rate = Rows(settings.batch, len(value)), RATE_SHARE * settings.learning_rate
    results = [
        working.head.train(*batch.fill(rows), mask, rate, fresh)
        for rows, fresh in _batches(working, feature, label, settings, steps)
    ]
    losses = [result.loss for result in results]
    fault = guard.judge(losses)
    if fault is not None:
        return Lesson(0, 0, float("nan"), fault, len(results))
    loss = sum(losses) / len(losses) if losses else float("nan")
    return Lesson(len(results), sum(result.replaced >= 0 for result in results), loss)


def _believe(working: WorkingState, value: Array, slot: int) -> bool:
    """Say whether to train on a label: of a settled class, one that the head contradicts has to come again."""
    contradicted = doubts(working.head, value[None], np.array([slot]))[0]
    if working.statistics.count[slot] < YOUNG or not contradicted or working.doubted[slot] + 1 == PATIENCE:
        working.doubted[slot] = 0
        return True
    working.doubted[slot] += 1
    return False


def _batches(
    working: WorkingState, feature: Array, label: Array, settings: LearnSettings, steps: int
) -> Iterator[tuple[tuple[Array, Array], Array]]:
    """Yield the rows of each step's batch, replayed ones with real ones instead of some, and its fresh weights.

    What chance decides is drawn in the order of the steps, and the rows of a few steps are computed together.
    """
    rng, d = working.rng, feature.shape[1]
    if not settings.replays:
        for _ in range(steps):
            yield (feature, label), fresh_weights(d, rng)
        return
    replay, shares = working.replay(settings.buffer > 0), _shares(working.statistics, settings.batch)
    together = replay.together(settings.batch)
    for start in range(0, steps, together):
        real, fresh = [], []
        for _ in range(start, min(start + together, steps)):
            slots = np.concatenate([evenly(rng, classes, many) for classes, many in shares])
            replay.draw_of(rng, slots)
            real.append(_places(rng, slots, label))
            fresh.append(fresh_weights(d, rng))
        for rows, slots, (places, images), weights in zip(*replay.take(expected=True), real, fresh):
            rows[places] = feature[images]
            yield (rows, slots), weights


def _places(rng: np.random.Generator, slots: Array, label: Array) -> tuple[list[int], list[int]]:
    """Return which rows of a batch of `slots` [B] real images of `label` [p] take, and which images these are.

    Each image has a place while there is one of its class.
    """
    order = np.argsort(slots, kind="stable")  # each class's rows side by side, in ascending order of the classes
    sorted_slots = slots[order].tolist()
    free: dict[int, list[int]] = {}
    start = 0
    while start < len(sorted_slots):
        slot = sorted_slots[start]
        end = start + sorted_slots.count(slot)
        if end - start > 1:
            rng.shuffle(order[start:end])
        free[slot] = order[start:end].tolist()
        start = end
    places, images = [], []
    names = label.tolist()
    for index in rng.permutation(len(label)).tolist():
        if free.get(names[index]):
            places.append(free[names[index]].pop())
            images.append(index)
    return places, images


def _shares(statistics: ClassStatistics, rows: int) -> list[tuple[Array, int]]:
    """Return classes and how many of the rows of a batch they have: each equally often, but the young ones a share."""
    seen, count = statistics.seen, statistics.count
    young, settled = seen[count[seen] <= YOUNG], seen[count[seen] > YOUNG]
    if not len(young) or not len(settled):
        return [(seen, rows)]
    many = round(rows * max(YOUNG_SHARE, len(young) / len(seen)))
    return [(settled, rows - many), (young, many)]


def _with(last: tuple[Array, Array] | None, raw: Array, slot: int, rows: int) -> tuple[Array, Array]:
    """Return the last images with one more, the oldest giving way."""
    feature, label = raw[None], np.array([slot], np.int32)
    if last is not None:
        feature, label = np.concatenate([last[0], feature]), np.concatenate([last[1], label])
    return feature[-rows:], label[-rows:]
