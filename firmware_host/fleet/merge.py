"""What a bundle and a set of deltas amount to: class statistics and a bank, by the set alone.

Of each device the newest delta counts, and sums are taken in the order of the devices' numbers: so neither the order in
which deltas arrive nor how often changes a byte. Class statistics are exact up to float64's rounding: those of one
device that saw every image. So are the bank's counts, means and shared scatter, up to float32's; its directions of each
class are approximate, as they are on one device.

Names that can hardly be told apart are one class. Classes of the bundle keep their order; those that are new come after
them, in alphabetical order. Dimensions: d features, C class slots, K slots of the bank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np

from firmware_host.fleet.delta import Array, Delta, Share
from firmware_host.shared.bank import bank_axes
from firmware_host.shared.bank.sums import Sums
from firmware_host.shared.names import look
from firmware_host.shared.statistics import ClassStatistics

__all__ = ["Base", "Merged", "dead_before", "fingerprint", "merged", "newest"]

DOUBTS = ("trial", "doubted", "tried")  # about labels, of one device alone


class Base(NamedTuple):
    """What a bundle starts with: names, statistics, the bank's tensors (None: no bank), mean [d] and scale [d]."""

    classes: tuple[str, ...]
    statistics: ClassStatistics
    bank: Optional[dict[str, Array]]
    mean: Array
    scale: Array


class Merged(NamedTuple):
    """What all of it amounts to.

    Attributes:
        classes: names in slot order.
        kept: for each of the bundle's classes that was not forgotten its slot there, in order.
        statistics: of C slots, in the features' own units.
        bank: its tensors, None where the bundle has none.
        left_out: classes for which there is no slot.
        fingerprint: of the set of deltas.
    """

    classes: tuple[str, ...]
    kept: tuple[int, ...]
    statistics: ClassStatistics
    bank: Optional[dict[str, Array]]
    left_out: tuple[str, ...]
    fingerprint: str


def newest(deltas: Iterable[Delta]) -> dict[str, Delta]:
    """Return the newest delta of each device, in the order of their numbers.

    Of two with one version, which two devices with one number would give, the larger digest counts, everywhere.
    """
    found: dict[str, Delta] = {}
    for delta in deltas:
        other = found.get(delta.device)
        if other is not None and delta.version == other.version:
            found[delta.device] = max(delta, other, key=lambda one: one.digest)
        elif other is None or delta.version > other.version:
            found[delta.device] = delta
    return dict(sorted(found.items()))


def fingerprint(deltas: Iterable[Delta]) -> str:
    """Return what is the same for the same set of newest deltas, SHA-256."""
    digests = [delta.digest for delta in newest(deltas).values()]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def dead_before(deltas: Iterable[Delta]) -> dict[str, int]:
    """Return for each name, by its look, the first life that still counts: what was taught before is forgotten."""
    found: dict[str, int] = {}
    for delta in deltas:
        for name, life in delta.forgotten.items():
            found[look(name)] = max(life, found.get(look(name), 0))
    return found


def merged(base: Base, deltas: Iterable[Delta], slots: int, first: Sequence[str] = ()) -> Merged:
    """Return what `base` and the deltas amount to, in C = `slots` slots.

    Args:
        base: what the bundle starts with.
        deltas: of any devices, checked, each as often and in whatever order as it came.
        slots: class slots of the head.
        first: names of new classes that come first where there are not slots enough for all; the others follow by
            their images.
    """
    chosen = newest(deltas)
    dead = dead_before(chosen.values())
    kept = tuple(slot for slot, name in enumerate(base.classes) if not dead.get(look(name)))
    names = {look(base.classes[slot]): base.classes[slot] for slot in kept}
    shares: dict[str, list[Share]] = {}
    new: dict[str, str] = {}
    for delta in chosen.values():
        for name, share in sorted(delta.classes.items()):
            key = look(name)
            if share.life >= dead.get(key, 0):
                shares.setdefault(key, []).append(share)
                if key not in names:
                    new[key] = min(name, new.get(key, name))
    fitting, left_out = _fitting(new, shares, slots - len(kept), first)
    names.update({key: new[key] for key in sorted(fitting, key=lambda key: new[key])})
    groups = [shares.get(key, []) for key in names]
    statistics = _statistics(base, kept, groups, chosen, slots)
    bank = None if base.bank is None else _bank(base, base.bank, kept, groups, chosen)
    return Merged(tuple(names.values()), kept, statistics, bank, left_out, fingerprint(chosen.values()))


def _fitting(
    new: Mapping[str, str], shares: Mapping[str, list[Share]], room: int, first: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Return which of the new names there is room for, and the others, as they are written."""
    before = {look(name) for name in first}

    def rank(key: str) -> tuple[bool, float, str]:
        return key not in before, -sum(share.images for share in shares[key]), new[key]

    ranked = sorted(new, key=rank)
    return ranked[: max(room, 0)], tuple(sorted(new[key] for key in ranked[max(room, 0) :]))


def _joined(counts: Sequence[float], means: Sequence[Array]) -> tuple[float, Array, Array]:
    """Return count, mean [d] and rows [g, d] whose squares are the scatter between groups of images.

    Chan, Golub and LeVeque (1979).
    """
    n, m = np.array(counts), np.stack(means)  # (g,), (g, d)
    total = float(n.sum())
    mean = n @ m / total
    return total, mean, np.sqrt(n)[:, None] * (m - mean)


def _statistics(
    base: Base, kept: Sequence[int], groups: Sequence[list[Share]], chosen: Mapping[str, Delta], slots: int
) -> ClassStatistics:
    d = base.statistics.mean.shape[1]
    mean, count, scatter = np.zeros((slots, d)), np.zeros(slots), base.statistics.scatter.copy()
    for delta in chosen.values():
        scatter += delta.scatter
    for slot, shares in enumerate(groups):
        counts, means = [share.images for share in shares], [share.mean for share in shares]
        if slot < len(kept) and base.statistics.count[kept[slot]] > 0:
            counts.insert(0, float(base.statistics.count[kept[slot]]))
            means.insert(0, base.statistics.mean[kept[slot]])
        if counts:
            count[slot], mean[slot], between = _joined(counts, means)
            scatter += between.T @ between
    return ClassStatistics(mean, count, scatter, base.statistics.shrinkage)


def _bank(
    base: Base,
    bank: Mapping[str, Array],
    kept: Sequence[int],
    groups: Sequence[list[Share]],
    chosen: Mapping[str, Delta],
) -> dict[str, Array]:
    arrays = {name: value.copy() for name, value in bank.items()}
    sums, binding = Sums(arrays), arrays["binding"]
    gone = [slot for slot in range(len(base.classes)) if slot not in kept]
    for table in (binding, arrays["trial"]):
        for slot in gone:
            if table[slot]:
                sums.clear(int(table[slot]) - 1)
    for name, axis in bank_axes("C").items():
        still = np.take(arrays[name], [*kept, *range(len(base.classes), arrays[name].shape[axis])], axis)
        arrays[name][...] = 0
        arrays[name][: len(still)] = still
    for name in DOUBTS:
        arrays[name][...] = 0
    scatter, total = arrays["scatter"].astype(np.float64), float(arrays["total"])
    for delta in chosen.values():
        scatter += delta.scatter / np.outer(base.scale, base.scale)
        total += delta.degrees
    touched = []
    for label, shares in enumerate(groups):
        if not shares:
            continue
        if not binding[label]:
            free = np.setdiff1d(np.flatnonzero(sums.count == 0), binding - 1)
            binding[label] = int(free[0]) + 1
        slot = int(binding[label]) - 1
        counts = [share.images for share in shares]
        means = [(share.mean - base.mean) / base.scale for share in shares]
        if sums.count[slot] > 0:
            counts.insert(0, float(sums.count[slot]))
            means.insert(0, sums.mean[slot].astype(np.float64))
        sums.count[slot], sums.mean[slot], between = _joined(counts, means)
        scatter += between.T @ between
        total += len(counts) - 1
        arrays["clock"] += 1
        arrays["used"][slot] = arrays["clock"]
        touched.append((slot, [*(share.rows / base.scale for share in shares), between[: len(counts) - 1]]))
    arrays["scatter"][...], arrays["total"][...] = scatter, total
    for slot, parts in touched:
        for rows in parts:
            sums.append(slot, np.asarray(rows, np.float32))
        sums.limit(slot)
    return arrays
