"""How a bank measures: distances in the covariance that all slots share, and in a few directions of each slot.

Dimensions: K slots, d features, r directions of a slot, N images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from firmware_host.shared.bank.sums import LEAST, Sums

__all__ = ["Metric", "renewed"]

Array = np.ndarray[Any, Any]

# Found on training images of CIFAR-100 and Tiny-ImageNet under two backbones; see benchmarks/NOTES.md.
SHRINKAGE = 0.02  # least share of independent features in the shared covariance
PER_FEATURE = 0.5  # images for each feature at which they have half of it
SETTLED = 16  # images from which a slot tells how class means are spread
FLOOR = 0.05  # least spread of class means in a direction, in units of that of images
PRIOR = 1000.0  # images that the shared covariance counts for beside a slot's
REST = (0.3, 1.0)  # limits of a slot's variance outside its directions
TRUST = 200.0  # images at which half of a direction's excess counts among neighbours
SHARE = 1.5  # weight of the neighbours' excess together
NEAR = 4  # slots that are told apart again
WEIGHT, FEW = 0.25, 15.0  # of the density beside the neighbours' common metric: WEIGHT + FEW / images
BOOST = 1.1  # how much of what few images leave open a young slot is spared: 0 is right if the model is, 1 favours it
HELD = 0.6  # share of this that is held back from a slot of one image, and to its n-th power from one of n
CROWD = 1.2  # how much of that young slots lose again where there are many of them
PIECE = 8  # slots that one piece of a renewal looks at
ROWS = 256  # images whose scores are computed together


class Metric:
    """The space in which the shared covariance is the identity, and what each slot looks like there.

    Its attributes follow from a `Sums`, as of the moment when it was renewed and, for each slot, of the last `move`.
    """

    def __init__(self, sums: Sums) -> None:
        slots, d = sums.mean.shape
        r = sums.directions
        self.whole = False  # whether every slot has been looked at
        self.total = float(sums.total)
        self.whitener = _whitener(sums)  # (d, d)
        self.centre, self.spread = np.zeros(d, np.float32), np.full(d, 0.5, np.float32)
        self.mean = np.zeros((slots, d), np.float32)
        self.open = np.zeros((slots, d), np.float32)  # variance of a mean that few images or another camera leave open
        self.basis = np.zeros((slots, r, d), np.float32)  # orthonormal rows
        self.variance = np.ones((slots, r), np.float32)  # in these directions
        self.rest = np.ones(slots, np.float32)  # and in all others
        self.precision = np.ones((slots, d), np.float32)  # of a next image, directions apart
        self.gain = np.zeros((slots, r), np.float32)  # what the directions change of it
        self.along = np.zeros((slots, r), np.float32)  # the mean in these directions
        self.weighted = np.zeros((slots, d), np.float32)  # the mean by its precision
        self.length = np.zeros(slots, np.float32)  # and its square
        self.openness = np.zeros(slots, np.float32)  # log determinant of what is open, less what a slot is spared of it
        self.determinant = np.zeros(slots, np.float32)  # log determinant of all, less what a young slot is spared
        self.excess = np.zeros((slots, r), np.float32)  # variance above the shared one, as far as it is trusted

    def take_spread(self, sums: Sums) -> None:
        """Estimate how class means are spread, and turn the space so that this spread is along its axes.

        From slots of many images; without them, the spread is taken as half of an image's everywhere.
        """
        live = np.flatnonzero(sums.count >= SETTLED)
        if len(live) < 10:
            live = np.flatnonzero(sums.count > 0)
            if len(live):
                self.centre = (sums.mean[live] @ self.whitener).mean(axis=0)
            return
        white = (sums.mean[live] @ self.whitener).astype(np.float64)
        covariance = np.cov(white.T) - np.mean(1.0 / sums.count[live]) * np.eye(white.shape[1])
        variance, axes = np.linalg.eigh(covariance)
        self.whitener = (self.whitener @ axes).astype(np.float32)
        self.centre = (white.mean(axis=0) @ axes).astype(np.float32)
        self.spread = np.maximum(variance, FLOOR).astype(np.float32)

    def move(self, sums: Sums, slot: int) -> None:
        """Take over what has changed in one slot."""
        n, d = float(sums.count[slot]), len(self.whitener)
        # A mean of few images is drawn to the centre, direction by direction (probabilistic LDA, Ioffe 2006).
        kept = self.spread / (self.spread + 1.0 / max(n, 1e-9))
        self.mean[slot] = self.centre + (sums.mean[slot] @ self.whitener - self.centre) * kept
        self.open[slot] = kept / max(n, 1e-9) + sums.apart[slot]
        self.basis[slot], self.variance[slot], self.excess[slot] = 0.0, 1.0, 0.0
        self.rest[slot] = 1.0
        rows = sums.leading(slot) @ self.whitener if n > 2 else np.zeros((0, d), np.float32)
        if len(rows):
            squares, vectors = np.linalg.eigh(rows @ rows.T)  # (r,)
            squares = np.maximum(squares, 1e-9)
            r, own = len(squares), squares / (n - 1.0)
            basis = (vectors / np.sqrt(squares)).T @ rows
            shared = PRIOR / (PRIOR + n)
            self.rest[slot] = (1.0 - shared) * float(np.clip((d - own.sum()) / max(d - r, 1), *REST)) + shared
            self.basis[slot, :r] = basis
            self.variance[slot, :r] = (1.0 - shared) * own + shared
            self.excess[slot, :r] = np.maximum(own - 1.0, 0.0) * n / (n + TRUST)
        used = np.square(self.basis[slot]).sum(axis=1)  # 1 for a direction, 0 for none
        along = np.square(self.basis[slot]) @ self.open[slot]  # (r,)
        inside, outside, every = self.variance[slot] + along, self.rest[slot] + along, self.rest[slot] + self.open[slot]
        self.precision[slot] = 1.0 / every
        self.gain[slot] = used * (1.0 / inside - 1.0 / outside)
        self.along[slot] = self.basis[slot] @ self.mean[slot]
        self.weighted[slot] = self.mean[slot] * self.precision[slot]
        self.length[slot] = self.weighted[slot] @ self.mean[slot]
        openness = np.log1p(self.open[slot]).sum()
        spared = BOOST * (1.0 - HELD**n) * openness
        self.openness[slot] = openness - spared
        whole = np.log(every).sum() + np.sum(used * np.log(inside / outside))
        self.determinant[slot] = whole - spared

    def scores(self, feature: Array, count: Array, slots: Array, near: int = NEAR) -> tuple[Array, Array]:
        """Judge images [N, d], standardised, by `slots` [k], of which the best few are judged again together.

        Returns:
            The scores [N, k], log densities up to what is common to all slots, and the largest log density [N].
        """
        parts = [self._scores(feature[i : i + ROWS], count, slots, near) for i in range(0, len(feature), ROWS)]
        parts = parts or [(np.zeros((0, len(slots)), np.float32), np.zeros(0, np.float32))]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _scores(self, feature: Array, count: Array, slots: Array, near: int) -> tuple[Array, Array]:
        q = (feature @ self.whitener).astype(np.float32)  # (N, d)
        every, r, d = self.basis.shape
        squared = (q * q) @ self.precision.T - 2.0 * q @ self.weighted.T + self.length  # (N, K)
        young = np.exp(-count / SETTLED) * (count > 0)  # (K,)
        prior = -CROWD * young * np.log(1.0 + young.sum() - young)
        if r:
            along = (q @ self.basis.reshape(every * r, d).T).reshape(len(q), every, r)
            along -= self.along
            along *= along
            squared += np.einsum("nkr,kr->nk", along, self.gain)
        z: Array = (prior - 0.5 * (squared + self.determinant))[:, slots]
        density: Array = z.max(axis=1)
        few = min(near, len(slots))
        if few >= 2 and r:
            for row in range(len(q)):
                self._tell_apart(q[row], z[row], count, slots, few, prior)
        return z, density

    def _tell_apart(self, q: Array, z: Array, count: Array, slots: Array, few: int, prior: Array) -> None:
        """Judge the `few` likeliest slots again, in the covariance that they have in common; `z` [k] is changed."""
        best = np.argpartition(-z, few - 1)[:few]
        chosen = slots[best]
        basis = self.basis[chosen].reshape(-1, len(q))  # (few r, d)
        excess = self.excess[chosen].reshape(-1) * (SHARE / few)
        apart = q - self.mean[chosen]  # (few, d)
        base = 1.0 / (1.0 + self.open[chosen])
        squared = np.sum(apart * apart * base, axis=1)
        more = 1.0 + 1e-5 * squared  # so that rounding leaves it positive
        # Woodbury: with the distance in the last corner, the last pivot's square is the distance in the covariance.
        n = len(basis)
        system = np.zeros((few, n + 1, n + 1), np.float32)
        system[:, :n, :n] = (basis * base[:, None]) @ basis.T
        system[:, np.arange(n), np.arange(n)] += 1.0 / np.maximum(excess, 1e-6)
        system[:, n, :n] = (apart * base) @ basis.T
        system[:, n, n] = squared + more
        pivots = np.diagonal(np.linalg.cholesky(system), axis1=1, axis2=2)  # which reads the lower half alone
        squared = np.square(pivots[:, n]) - more
        determinant = 2.0 * np.log(pivots[:, :n]).sum(axis=1) + self.openness[chosen]
        common = prior[chosen] - 0.5 * (squared + determinant)
        weight = WEIGHT + FEW / max(float(count[chosen].mean()), 1e-9)
        again = common + weight * z[best]
        z[:] = np.minimum((1.0 + weight) * z + np.mean(common - z[best]), again.min() - 1e-3)
        z[best] = again
        z *= (1.0 + WEIGHT) / (1.0 + weight)  # as sure of few images as of many


def renewed(sums: Sums) -> Iterator[Metric]:
    """Yield the Metric that `sums` give after each piece of work of a few milliseconds; it is `whole` at last."""
    metric = Metric(sums)
    yield metric
    metric.take_spread(sums)
    yield metric
    live = np.flatnonzero(sums.count > 0)
    for place, slot in enumerate(live, 1):
        metric.move(sums, int(slot))
        if place % PIECE == 0:
            yield metric
    metric.whole = True
    yield metric


def _whitener(sums: Sums) -> Array:
    """Return L [d, d] with x L of shared covariance 1."""
    d = len(sums.scatter)
    covariance = sums.scatter.astype(np.float64) / max(float(sums.total), 1.0)
    variance = float(np.trace(covariance)) / d or 1.0
    share = max(SHRINKAGE, PER_FEATURE * d / (float(sums.total) + PER_FEATURE * d))
    apart = np.maximum(np.diag(covariance), LEAST * variance)  # features taken for independent
    covariance = (1.0 - share) * covariance + share * np.diag(apart)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)).T, np.float32)
