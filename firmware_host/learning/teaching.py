"""Learning unattended: labels come one at a time, unbalanced, and each is worth a number of training steps.

Dimensions: d features, C class slots, B rows of a batch, p images that were taught last.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from firmware_host.engines.protocol import Array
from firmware_host.learning.doubt import PATIENCE, doubts
from firmware_host.learning.guard import Guard
from firmware_host.learning.learner import LearnSettings, fresh_weights, padded
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
    if working.pending is None or not working.trains:
        return Lesson(0, 0, float("nan"))
    feature, label = working.dequantize(working.pending[0]), working.pending[1]  # (p, d), (p,)
    guard = Guard(working.head, working.statistics, accuracy=settings.replays)
    mask = np.zeros(len(working.statistics.count), np.float32)  # (C,)
    mask[working.statistics.seen if settings.replays else np.unique(label)] = 1.0
    results = []
    for _ in range(steps_for(int(working.statistics.count[slot])) if believe else 0):
        rows = _batch(working, feature, label, settings) if settings.replays else (feature, label)
        fresh = fresh_weights(len(value), working.rng)
        rate = RATE_SHARE * settings.learning_rate
        results.append(working.head.train(*padded(*rows, settings.batch), mask, rate, fresh))
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


def _batch(working: WorkingState, feature: Array, label: Array, settings: LearnSettings) -> tuple[Array, Array]:
    """Return a batch of replayed rows [B, d] and their slots [B], with real ones instead of some."""
    rng = working.rng
    slots = _shares(working, settings.batch)
    rows = working.expect(slots, settings.buffer > 0)
    places = {int(slot): list(rng.permutation(np.flatnonzero(slots == slot))) for slot in np.unique(slots)}
    for index in rng.permutation(len(label)):
        free = places.get(int(label[index]))
        if free:
            rows[free.pop()] = feature[index]
    return rows, slots


def _shares(working: WorkingState, rows: int) -> Array:
    """Return the slots [rows] of a batch: every class equally often, but the young ones together not below a share."""
    seen, count = working.statistics.seen, working.statistics.count
    young, settled = seen[count[seen] <= YOUNG], seen[count[seen] > YOUNG]
    if not len(young) or not len(settled):
        return evenly(working.rng, seen, rows)
    many = round(rows * max(YOUNG_SHARE, len(young) / len(seen)))
    return np.concatenate([evenly(working.rng, settled, rows - many), evenly(working.rng, young, many)])


def _with(last: tuple[Array, Array] | None, raw: Array, slot: int, rows: int) -> tuple[Array, Array]:
    """Return the last images with one more, the oldest giving way."""
    feature, label = raw[None], np.array([slot], np.int32)
    if last is not None:
        feature, label = np.concatenate([last[0], feature]), np.concatenate([last[1], label])
    return feature[-rows:], label[-rows:]
