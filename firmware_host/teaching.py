"""Learning unattended: labels come one at a time, unbalanced, and each is worth a number of training steps.

Dimensions: d features, C class slots, B rows of a batch, p images that were taught last.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from firmware_host.guard import Guard
from firmware_host.learner import LearnSettings, Replay, fresh_weights, observe, padded
from firmware_host.memory import Memory
from firmware_host.protocol import Array

__all__ = ["YOUNG", "Lesson", "steps_for", "teach"]

YOUNG = 16  # images until a class counts as settled
STEPS_YOUNG, STEPS_SETTLED = 4, 1


class Lesson(NamedTuple):
    """What one label brought: training steps, units reborn, mean loss, and why it was taken back (None: it was not)."""

    steps: int
    replaced: int
    loss: float
    fault: str | None


def steps_for(count: int) -> int:
    """Return the training steps that the `count`-th image of a class is worth: many while the class is new."""
    return STEPS_YOUNG if count <= YOUNG else STEPS_SETTLED


def teach(memory: Memory, raw: Array, value: Array, slot: int, settings: LearnSettings, replay: Replay) -> Lesson:
    """Take in one image with its slot: class means at once, then training steps on the last images and replayed ones.

    Args:
        memory: what the device knows; changed in place, or left as it was where a fault is found.
        raw: feature [d] as the backbone stores it; kept among the last images.
        value: the same, float32.
        slot: of the image's class, which has its name already.
        settings: batch, learning rate and kind of replay; epochs are not used.
        replay: draws replayed rows.
    """
    before = memory.snapshot()
    memory.unmask(np.array([slot]))
    observe(memory.head, memory.statistics, value[None], np.array([slot], np.int32), settings.batch)
    feature, label = _with(memory.pending, raw, slot, settings.real_rows)
    memory.pending = feature, label
    guard = Guard(memory.head, memory.statistics, accuracy=settings.replays)
    rows = memory.dequantize(feature)  # (p, d)
    mask = np.zeros(len(memory.statistics.count), np.float32)  # (C,)
    mask[memory.statistics.seen if settings.replays else np.unique(label)] = 1.0
    results = []
    for _ in range(steps_for(int(memory.statistics.count[slot]))):
        replayed, slots = replay(settings.batch - settings.real_rows, memory.rng)
        batch = padded(np.concatenate([rows, replayed]), np.concatenate([label, slots]), settings.batch)
        fresh = fresh_weights(len(value), memory.rng)
        results.append(memory.head.train(*batch, mask, settings.learning_rate, fresh))
    losses = [result.loss for result in results]
    fault = guard.judge(losses)
    if fault is not None:
        memory.restore(before)
        memory.rolled_back += len(results)
        return Lesson(0, 0, float("nan"), fault)
    return Lesson(len(results), sum(result.replaced >= 0 for result in results), sum(losses) / len(losses), None)


def _with(last: tuple[Array, Array] | None, raw: Array, slot: int, rows: int) -> tuple[Array, Array]:
    """Return the last images with one more, the oldest giving way."""
    feature, label = raw[None], np.array([slot], np.int32)
    if last is not None:
        feature, label = np.concatenate([last[0], feature]), np.concatenate([last[1], label])
    return feature[-rows:], label[-rows:]
