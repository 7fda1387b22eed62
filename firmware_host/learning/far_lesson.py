"""A lesson of new classes that lie too far off: what of that is taken for another camera's doing, and no class's.

Such a lesson cannot tell a camera from a class. But the two mistakes do not cost the same. If the camera is taken for
the classes, the device gives every image to the new ones from then on, and the old classes are lost. If the classes are
taken for a camera, old images lie off by an offset that the stream of predictions soon shows (see `following.py`).

So the mean of the new classes is taken to lie off that of the old ones by a camera's offset, less what chance explains
of it, and the means of the old classes are left open on top. How far that may go, the lesson's own images say: either
half of them is judged by a bank that learned the other one, and nearly as many have to be right as without any of it.

Dimensions: N images, d features, K known classes, k new ones.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np

from firmware_host.engines.protocol import Array
from firmware_host.learning.calibration import away
from firmware_host.learning.camera_state import ASSUMED, UNCLEAR, lesson_through
from firmware_host.shared.bank import Bank, Mixture

if TYPE_CHECKING:
    from firmware_host.learning.working_state import WorkingState

__all__ = ["look_at", "look_back", "open_as_borne", "take_for_camera"]

# Found with digits through simulated cameras; see benchmarks/NOTES.md.
SHARES = (1.0, 0.75, 0.5, 0.25)  # of the offset, the first that the new classes bear
OPEN = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)  # left open in the means of old classes, in variances within a class
LEAST_OPEN = 0.001  # never nothing: it tells that this camera is known
LOST = 0.1  # share of the images held out that the new classes may lose by it
MOST = 32  # images of a class that are judged
LOOKS = (8, 16)  # images taught one at a time, after which there are enough to look back at

logger = logging.getLogger(__name__)


class _Half(NamedTuple):
    """A bank that learned one half of the lesson, and the features [n, d] and labels [n] of the other."""

    bank: Bank
    feature: Array
    label: Array


def look_at(working: WorkingState, raw: Array, label: Array) -> Optional[str]:
    """Return what a lesson, features [N, d] as stored of the slots `label` [N], says of the camera.

    See `lesson_through`. Where it is unclear, the camera is moved as far as the lesson bears it: `ASSUMED`. A camera
    that is known to differ leaves open what the lesson bears.
    """
    plain, new = working.plain(raw), bool(np.all(working.statistics.count[label] == 0))
    said = lesson_through(working.camera, working.statistics, plain - working.camera.offset, label)
    if new and working.follows and working.mixture is not None and working.camera.apart:
        open_as_borne(working, plain, label)
        return said
    return ASSUMED if said == UNCLEAR and _may_move(working) and take_for_camera(working, plain, label) else said


def look_back(working: WorkingState) -> None:
    """Take the images taught last, one at a time, for a lesson as in `look_at`, once there are enough of them.

    They are if they are all that the device was taught of their classes.
    """
    if working.pending is None or len(working.pending[1]) not in LOOKS or not _may_move(working):
        return
    raw, label = working.pending
    names, count = np.unique(label, return_counts=True)
    statistics, camera, plain = working.statistics, working.camera, working.plain(raw)
    if not np.array_equal(statistics.count[names], count):
        return
    if not camera.is_far(statistics, plain - camera.offset, label):
        return
    if take_for_camera(working, plain, label):
        working.said = ASSUMED
        logger.warning(
            "the new classes lie far from all known ones: taken for this camera's doing, as far as they stay apart; "
            "`calibrate` finds out with images of the known ones"
        )


def _may_move(working: WorkingState) -> bool:
    """Return whether no lesson was taken for the camera yet, nor was it calibrated by labels, and it may be moved."""
    return working.follows and working.mixture is not None and not working.camera.apart


def take_for_camera(working: WorkingState, plain: Array, label: Array) -> bool:
    """Move the camera of a device as far as a lesson bears that is unlike all known classes.

    Args:
        working: what the device knows, which has a bank; changed in place.
        plain: features [N, d] of the lesson, no offset taken from them.
        label: [N], their slots.

    Returns:
        Whether it was moved: not where no class has two images, or the new classes bear none of it.
    """
    before, apart, judged = working.camera.offset.copy(), working.camera.apart, _judged(label)
    step = _offset(working, plain - before, label)
    if not len(judged) or not step.any():
        return False
    feature, slots = plain[judged], label[judged]
    least = _right(working, _halves(working, feature - before, slots), apart) - LOST
    for share in SHARES:
        offset = (before + share * step).astype(np.float32)
        working.move_camera(offset, apart)
        halves = _halves(working, feature - offset, slots)
        if _right(working, halves, apart) >= least:
            working.move_camera(offset, _widest(working, halves, least))
            return True
    working.move_camera(before, apart)
    return False


def open_as_borne(working: WorkingState, plain: Array, label: Array) -> None:
    """Leave as much open in the means of old classes as a lesson of new ones bears.

    It tells more than the few images of a calibration, which also leave something open.

    Args:
        working: of a camera that is calibrated and differs from the host's; changed in place.
        plain: as in `take_for_camera`.
        label: likewise.
    """
    judged = _judged(label)
    if not len(judged):
        return
    halves = _halves(working, plain[judged] - working.camera.offset, label[judged])
    working.move_camera(working.camera.offset, _widest(working, halves, _right(working, halves, 0.0) - LOST))


def _judged(label: Array) -> Array:
    """Return which images of a lesson can be judged by others of their class, [n]."""
    names, count = np.unique(label, return_counts=True)
    return np.concatenate([np.flatnonzero(label == name)[:MOST] for name in names[count > 1]] or [names[:0]])


def _widest(working: WorkingState, halves: list[_Half], least: float) -> float:
    """Return what may be left open so that no smaller share than `least` of the held-out images is right."""
    apart = LEAST_OPEN
    for wider in OPEN:
        if _right(working, halves, wider) < least:
            break
        apart = wider
    return apart


def _offset(working: WorkingState, feature: Array, label: Array) -> Array:
    """Return how far the mean of the new classes lies off that of the old ones, [d], less what chance explains."""
    host, mixture = working.camera.of_host(working.statistics), _mixture(working)
    names, count = np.unique(label, return_counts=True)
    new = np.array([feature[label == name].mean(axis=0) for name in names])  # (k, d)
    old = working.statistics.mean[host]  # (K, d)
    kept = max(0.0, 1.0 - 1.0 / max(away(mixture.white(old), mixture.white(new), count), 1e-12))
    return np.asarray(kept * (new.mean(axis=0) - old.mean(axis=0)))


def _mixture(working: WorkingState) -> Mixture:
    """Return the device's mixture, which it has."""
    if working.mixture is None:
        raise TypeError("a device without a bank takes no lesson for a camera")
    return working.mixture


def _halves(working: WorkingState, feature: Array, label: Array) -> list[_Half]:
    """Return banks that know what the device does, and one half each of the images [n, d] of the classes in `label`."""
    part, found, mixture = np.zeros(len(label), np.int64), [], _mixture(working)
    for name in np.unique(label):
        mine = np.flatnonzero(label == name)
        part[mine] = np.arange(len(mine)) % 2
    for half in (part == 0, part == 1):
        bank = mixture.copy().bank
        for name in np.unique(label[bank.binding[label] > 0]):
            bank.forget(int(name))
        bank.learn(feature[half], label[half])
        found.append(_Half(bank, feature[~half], label[~half]))
    return found


def _right(working: WorkingState, halves: list[_Half], apart: float) -> float:
    """Return the share of held-out images that are right where `apart` is left open in the means of old classes."""
    right = 0
    for bank, feature, label in halves:
        variance = working.camera.left_open(working.statistics, apart)  # (C,)
        variance[label] = 0.0
        bank.leave_open(variance)
        right += int(np.sum(bank.logits(feature).argmax(axis=1) == label))
    return right / sum(len(half.label) for half in halves)
