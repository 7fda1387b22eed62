"""Class slots put in another order: classes that are forgotten, renamed, or arranged as a group of devices has them.

Dimensions: C class slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from firmware_host.bundle import ClassStatistics, DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.learning.working_state import WorkingState
from firmware_host.shared.bank import bank_axes
from firmware_host.shared.names import distinct_names, known_name, nearest

__all__ = ["forget", "in_order", "rename", "set_in_order"]

NONE = -1


def in_order(values: Array, order: Sequence[int], axis: int = 0) -> Array:
    """Return `values` with the slots `order` along an axis; zero for NONE, and for those beyond the order."""
    found = np.zeros_like(values)
    there = [(new, old) for new, old in enumerate(order) if old != NONE]
    if there:
        new, old = (list(each) for each in zip(*there))
        np.moveaxis(found, axis, 0)[new] = np.moveaxis(values, axis, 0)[old]
    return found


def set_in_order(working: WorkingState, order: Sequence[int]) -> None:
    """Put what belongs to slots, and is kept beside head, statistics and bank, in another order.

    Args:
        working: what the device knows.
        order: for each new slot, the old one, or NONE; images of slots that are not there are dropped.
    """
    working.doubted, working.camera.images = (in_order(v, order) for v in (working.doubted, working.camera.images))
    new = {old: slot for slot, old in enumerate(order) if old != NONE}
    if working.buffer is not None:
        working.buffer = working.buffer.in_order(new)
    if working.pending is not None:
        feature, label = working.pending
        keep = [row for row, slot in enumerate(label) if int(slot) in new]
        working.pending = feature[keep], np.array([new[int(label[row])] for row in keep], np.int32)


def forget(working: WorkingState, name: str) -> None:
    """Take a class out of everything and give its slot back; the classes after it move down by one.

    What it added to the covariance shared by all classes stays.

    Raises:
        DeviceError: it is not known.
    """
    slot = _slot(working, name)
    order = [each for each in range(working.bundle.slots) if each != slot]
    if working.own is not None:
        working.own.forget(working.classes[slot], _alone(working, slot))
    working.unknowns.clear()
    state = working.head.get_state()
    for tensor, axis in working.bundle.class_axes.items():
        state[tensor] = in_order(state[tensor], order, axis)
    working.head.set_state(state)
    old = working.statistics
    working.statistics = ClassStatistics(
        in_order(old.mean, order), in_order(old.count, order), old.scatter, old.shrinkage
    )
    working.classes = (*working.classes[:slot], *working.classes[slot + 1 :])
    bank = None
    if working.mixture is not None:
        working.mixture.bank.forget(slot)
        bank = working.mixture.arrays()
        bank.update({tensor: in_order(bank[tensor], order, axis) for tensor, axis in bank_axes("C").items()})
    set_in_order(working, order)
    working.mixture = working.mixture_of(replace(working.snapshot(), bank=bank))


def rename(working: WorkingState, old: str, new: str) -> None:
    """Give a class another name; raises DeviceError when it is not known, or the new one is invalid or taken.

    To other devices it is a class that was forgotten and one that is new, with all its images.
    """
    slot = _slot(working, old)
    others = (*working.classes[:slot], *working.classes[slot + 1 :])
    name = known_name(new, others)
    if name in others:
        raise DeviceError(f"class {name!r} is known already: choose another name")
    name = distinct_names([name], known=others)[-1]
    if working.own is not None and name != working.classes[slot]:
        statistics = working.statistics
        count, mean = float(statistics.count[slot]), statistics.mean[slot]
        working.own.rename(working.classes[slot], name, count, mean, _alone(working, slot))
    working.classes = (*working.classes[:slot], name, *working.classes[slot + 1 :])


def _alone(working: WorkingState, slot: int) -> bool:
    """Return whether all images of a class were taught to this device."""
    part = None if working.own is None else working.own.parts.get(working.classes[slot])
    return part is not None and part.count > working.statistics.count[slot] - 0.5


def _slot(working: WorkingState, name: str) -> int:
    name = known_name(name, working.classes)
    if name not in working.classes:
        near = nearest(name, working.classes)
        raise DeviceError(
            f"class {name!r} is not known: the device knows {', '.join(working.classes) or 'none'}"
            + (f"; do you mean {near!r}?" if near else "")
        )
    return working.classes.index(name)
