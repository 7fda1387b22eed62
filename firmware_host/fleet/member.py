"""A device that takes part in a group: what all of them were taught becomes what it knows.

What is known is made again from the bundle and the deltas each time, so that it is the same on every device of one
kind, whatever came first. Of the head, too: it starts as the bundle's and is trained by replay from the statistics of
all classes, the random numbers following from the set of deltas. What belongs to one device alone stays: its camera's
offset, its last images, how novel and how sure its own images were.

Dimensions: d features, C class slots.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from firmware_host.engines.protocol import HeadState
from firmware_host.fleet.merge import Base, Merged
from firmware_host.learning import learner
from firmware_host.learning.arrange import NONE, in_order, set_in_order
from firmware_host.learning.working_state import WorkingState
from firmware_host.shared.errors import DeviceError
from firmware_host.shared.names import look
from firmware_host.state import Snapshot

if TYPE_CHECKING:
    from firmware_host.bundle import Bundle

__all__ = ["LOCAL", "take_over"]

LOCAL = ("losses", "usual", "novelties", "sure")  # tensors of the bank that say how this device's images were judged
IMAGES = 48  # drawn of each class to train the head by
MOST_IMAGES = 6000
logger = logging.getLogger(__name__)


def take_over(working: WorkingState, start: Snapshot, base: Base, merged: Merged) -> int:
    """Let a device know what `merged` says, in place of what it knew; return the training steps made.

    Args:
        working: what it knows; changed in place, the caller rolls back what fails.
        start: what its bundle starts with.
        base: the same, as it was merged.
        merged: what the bundle and all deltas amount to.
    """
    before = {look(name): slot for slot, name in enumerate(working.classes)}
    order = [before.get(look(name), NONE) for name in merged.classes]
    set_in_order(working, order)
    working.unknowns.clear()
    old = working.snapshot()
    bank = None if merged.bank is None else dict(merged.bank)
    if bank is not None and old.bank is not None:
        bank.update({name: old.bank[name] for name in LOCAL})
    head = _head(working.bundle, start, merged)
    working.restore(replace(old, head=head, statistics=merged.statistics, classes=merged.classes, bank=bank))
    if working.own is not None:
        own = {look(name): part.count for name, part in working.own.parts.items()}
        images = [own.get(look(name), 0.0) for name in merged.classes]
        working.camera.images[:] = 0.0
        working.camera.images[: len(images)] = images
        working.own.fingerprint = merged.fingerprint
        if working.mixture is not None:
            working.mixture.bank.leave_open(working.camera.left_open(working.statistics))
    return _rehearse(working, merged) if working.trains and merged.classes != base.classes else 0


def _head(bundle: Bundle, start: Snapshot, merged: Merged) -> HeadState:
    """Return the tensors of the bundle's head with the classes of `merged`."""
    head = dict(start.head)
    for tensor, axis in bundle.class_axes.items():
        head[tensor] = in_order(start.head[tensor], merged.kept, axis)
    known = merged.statistics.count > 0
    head["class_mask"] = np.maximum(head["class_mask"], known).astype(np.float32)
    head["class_mean"] = merged.statistics.mean.astype(np.float32)
    head["class_count"] = merged.statistics.count.astype(np.float32)
    return head


def _rehearse(working: WorkingState, merged: Merged) -> int:
    """Train the head on features drawn from the statistics; the random numbers follow from the deltas."""
    rng = np.random.default_rng(int(merged.fingerprint[:16], 16))
    seen = len(working.statistics.seen)
    if not seen:
        return 0
    settings = learner.LearnSettings(
        "statistics", 1, float(working.bundle.head["learning_rate"]), int(working.bundle.head["batch"])
    )
    drawn = working.statistics.sample(rng, min(IMAGES * seen, MOST_IMAGES))
    try:
        result = learner.train(working.head, working.statistics, *drawn, settings, rng)
    except DeviceError as error:  # what broke it is taken back; the bank does not need it
        logger.warning("the head is not trained on what others taught: %s", error)
        return 0
    working.rolled_back += result.rolled_back
    return result.steps
