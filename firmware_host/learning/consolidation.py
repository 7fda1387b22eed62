"""Consolidation on the device: FOSTER's two phases over the class statistics, in place of training steps.

Wang et al., arXiv 2204.04662; the computation is `firmware_host.shared.foster`, the host's as well. Old classes are
rows drawn from class statistics, no image of theirs is kept; the result is an ordinary state of a `residual` head.

Dimensions: N images, d features, C class slots.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.forward import Constants, quietly
from firmware_host.engines.protocol import Array
from firmware_host.learning.guard import Guard
from firmware_host.shared import foster

if TYPE_CHECKING:
    from firmware_host.learning.learner import Progress
    from firmware_host.learning.working_state import WorkingState

__all__ = ["WAYS", "Consolidated", "check_consolidates", "consolidate"]

WAYS = ("foster",)
ROWS = 100  # of a new class at least: what its images lack is drawn from its statistics (benchmarks/NOTES.md, 94)


class Consolidated(NamedTuple):
    """Training steps made, and the mean loss of the last pass."""

    steps: int
    loss: float


def check_consolidates(working: WorkingState) -> None:
    """Raise DeviceError unless the head is one that two modules can be compressed into."""
    block = working.bundle.head["block"]
    if block != "residual":
        raise DeviceError(
            f"the head of {working.bundle.path} has block {block}, only a residual one can be consolidated: convert a "
            "run that was trained with --method foster"
        )
    if not working.trains:
        raise DeviceError(
            f"the block of {working.bundle.path} has no weight beside its bank: there is nothing to consolidate"
        )


@quietly
def consolidate(
    working: WorkingState,
    feature: Array,
    label: Array,
    epochs: int,
    learning_rate: float,
    progress: Progress = None,
) -> Consolidated:
    """Boost by a second module, then compress both into the head's one block; `working` knows the images already.

    Args:
        working: what the device knows; its head changes. Moments, ages and utilities of its units begin again.
        feature: of the new classes' images, [N, d] float32; few of a class are made up for by rows drawn from its
            statistics. None at all: those of every class that the device was taught.
        label: their slots, [N].
        epochs: passes, half of them for either phase.
        learning_rate: Adam's first step size.
        progress: called with (what, passes done, passes in all).

    Raises:
        DeviceError: the head cannot hold the result, no class was taught, or learning diverged; the caller takes back
            what changed.
    """
    check_consolidates(working)
    feature, label = _filled(working, feature, label)
    constants, steps, losses = Constants.of(working.bundle.head), 0, []
    settings = foster.Foster(epochs=max(1, epochs // 2), rate=learning_rate)

    def scaled(rows: Array) -> Array:  # called once a pass
        nonlocal steps
        steps += -(-len(rows) // settings.batch)
        return constants.standardise(rows)

    guard = Guard(working.head, working.statistics)
    state = {name: np.array(value) for name, value in working.head.get_state().items()}
    for row in foster.learn(state, scaled, feature, label, working.statistics, settings, working.rng):
        losses.append(row["loss"])
        if not math.isfinite(row["loss"]):
            break
        if progress:
            progress("consolidating", len(losses), 2 * settings.epochs)
    else:
        working.head.set_state(state)
    if reason := guard.judge(losses):
        raise DeviceError(f"consolidation diverged ({reason}): use a lower learning rate than {learning_rate}")
    return Consolidated(steps, losses[-1])


def _filled(working: WorkingState, feature: Array, label: Array) -> tuple[Array, Array]:
    """Return features and slots with rows drawn for the classes that have few of them."""
    classes, images = np.unique(label, return_counts=True)
    if not len(label):
        own = [name not in working.bundle.classes for name in working.classes]
        classes = np.array([slot for slot in working.statistics.seen if own[slot]], np.int64)
        images = np.zeros_like(classes)
        if not len(classes):
            raise DeviceError("no class was taught to this device: teach it one, or give images to learn")
    drawn = np.repeat(classes, np.maximum(ROWS - images, 0)).astype(np.int32)
    rows = working.statistics.expect(working.rng, drawn)
    return np.concatenate([feature, rows]), np.concatenate([label, drawn])
