"""What a bank remembers of each slot: how many images, their mean, and the rows that make up their scatter.

Dimensions: K slots, d features, r directions of a slot, n images of one slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["Sums", "compressed"]

Array = np.ndarray[Any, Any]
CAP = 400.0  # images that a slot counts for at most when another is merged into it
# Beyond so many images float32 sums would no longer move; older ones then count for half.
MOST, MOST_TOGETHER = 1e5, 1e6
LEAST = 1e-3  # variance of a feature, at least, where directions are chosen: a share of the mean over all features


class Sums:
    """Running sums over images, exact but for the rounding of `factor` to half precision and to its 2 r rows.

    Args:
        arrays: `count`, `mean`, `scatter`, `total`, `factor` and `rows` of `BANK`; they are changed in place.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.count, self.mean, self.scatter = arrays["count"], arrays["mean"], arrays["scatter"]
        self.total, self.factor, self.rows = arrays["total"], arrays["factor"], arrays["rows"]
        # What another camera than that of its images leaves open in a slot's mean, [K], in variances within a class.
        self.apart = np.zeros(len(self.count), np.float32)

    @property
    def directions(self) -> int:
        """Directions that a slot keeps, r."""
        return self.factor.shape[1] // 2

    def add(self, slot: int, feature: Array, weight: float = 1.0) -> None:
        """Take images [n, d] of one slot in; two groups are joined as in Chan, Golub and LeVeque (1979).

        Each counts as `weight` images.
        """
        before, new = float(self.count[slot]), weight * len(feature)
        mean = feature.mean(axis=0)
        shift = mean - self.mean[slot]
        rows = np.sqrt(weight) * (feature - mean) if len(feature) > 1 else feature[:0]
        if before:
            rows = np.concatenate([rows, np.sqrt(before * new / (before + new)) * shift[None]])
        self.scatter += rows.T @ rows
        self.total += new if before else new - weight
        self.mean[slot] += shift * (new / (before + new))
        self.count[slot] += new
        self.append(slot, rows)
        self.limit(slot)

    def clear(self, slot: int) -> None:
        """Empty one slot; what it added to the scatter of all slots stays."""
        self.count[slot], self.mean[slot], self.rows[slot], self.factor[slot] = 0.0, 0.0, 0, 0.0
        self.apart[slot] = 0.0

    def merge(self, slot: int, into: int) -> None:
        """Move what `slot` holds to the slot `into`, whose older images then count for 400 at most."""
        share = min(1.0, CAP / max(float(self.count[into]), 1.0))
        kept, new = float(self.count[into]) * share, float(self.count[slot])
        shift = self.mean[slot] - self.mean[into]
        between = np.sqrt(kept * new / max(kept + new, 1.0)) * shift
        self.scatter += np.outer(between, between)
        self.mean[into] += shift * (new / max(kept + new, 1.0))
        self._lighten(into, share)
        self.count[into] = kept + new
        self.append(into, self.factor[slot, : self.rows[slot]].astype(np.float32))
        self.clear(slot)

    def limit(self, slot: int) -> None:
        """Let a slot, and all together, count for no more images than float32 sums can still be moved from."""
        while self.count[slot] > MOST:
            self._lighten(slot, 0.5)
        if self.total > MOST_TOGETHER:
            self.fade(MOST_TOGETHER / 2.0)

    def fade(self, most: float) -> None:
        """Let the scatter of all slots stand for `most` images at most, so that newer ones move it."""
        share = min(1.0, most / max(float(self.total), 1.0))
        self.scatter *= share
        self.total *= share

    def leading(self, slot: int, most: int = 0) -> Array:
        """Return the at most `most` (default r) rows, float32 [., d], whose squares come nearest to the slot's scatter.

        Nearest in units of each feature's deviation within the classes: a feature of large numbers counts no more.
        """
        rows = self.factor[slot, : self.rows[slot]].astype(np.float32)
        return compressed(rows, most or self.directions, self._weights())

    def _lighten(self, slot: int, share: float) -> None:
        """Let the images of a slot count for `share` of what they did."""
        self.count[slot] *= share
        self.factor[slot] = (self.factor[slot].astype(np.float32) * np.sqrt(share)).astype(np.float16)

    def append(self, slot: int, rows: Array) -> None:
        """Take rows [n, d] into those of a slot; where there are too many, the leading directions are kept."""
        room, step, weights = self.factor.shape[1], max(self.directions, 1), self._weights()
        if not room:
            return
        for start in range(0, len(rows), step):
            held = self.factor[slot, : self.rows[slot]].astype(np.float32)
            held = np.concatenate([held, rows[start : start + step]])
            if len(held) > room:
                held = compressed(held, self.directions, weights)
            self.factor[slot, : len(held)], self.rows[slot] = held, len(held)

    def _weights(self) -> Array:
        """Return one over the variance of each feature within the classes, [d]; the unit does not matter."""
        squares = np.diag(self.scatter)
        return np.asarray(1.0 / np.maximum(squares, LEAST * squares.mean() + 1e-12), np.float32)


def compressed(rows: Array, most: int, weights: Array | float = 1.0) -> Array:
    """Return at most `most` rows [., d], whose squares are the leading part of those of `rows` [n, d].

    `weights` [d]: what each feature counts, one over its variance.
    """
    if len(rows) <= most:
        return rows
    exact = rows.astype(np.float64)  # directions of nearly the same size are sensitive to rounding
    _, vectors = np.linalg.eigh((exact * weights) @ exact.T)
    kept: Array = vectors[:, -most:].astype(np.float32).T @ rows
    return kept
