"""Class statistics for replay: a mean and a count per class, one covariance shared by all (Welford 1962).

Dimensions: d features, C class slots.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["ClassStatistics", "evenly"]

Array = np.ndarray[Any, Any]
BLOCK = 32  # rows of a triangle that are solved at once
STRIP = 64  # and that are multiplied at once


class ClassStatistics:
    """Running class means and a shared scatter matrix, updated one image at a time.

    Args:
        mean: [C, d], class means in the features' own units.
        count: [C], images seen per class.
        scatter: [d, d], sum of outer(x - mean before, x - mean after) over all images, each with its class's mean.
        shrinkage: share of the covariance replaced by its mean variance on the diagonal when sampling, 0..1.

    The arrays are copied and kept as float64.

    Raises:
        ValueError: their shapes do not fit.
    """

    def __init__(self, mean: Array, count: Array, scatter: Array, shrinkage: float = 0.05) -> None:
        self.mean = np.array(mean, np.float64)  # (C, d)
        self.count = np.array(count, np.float64)  # (C,)
        self.scatter = np.array(scatter, np.float64)  # (d, d)
        slots, size = self.mean.shape
        if self.count.shape != (slots,) or self.scatter.shape != (size, size):
            raise ValueError(
                f"class statistics: mean {self.mean.shape}, count {self.count.shape} and scatter {self.scatter.shape} "
                "do not fit: give [C, d], [C] and [d, d]"
            )
        if not 0.0 <= shrinkage <= 1.0:
            raise ValueError(f"shrinkage is {shrinkage}: give a number from 0 to 1")
        self.shrinkage = shrinkage
        self._factor: Array | None = None
        self._centre: tuple[Array, float] | None = None

    @classmethod
    def empty(cls, slots: int, features: int, shrinkage: float = 0.05) -> ClassStatistics:
        """Return statistics of no image yet."""
        return cls(np.zeros((slots, features)), np.zeros(slots), np.zeros((features, features)), shrinkage)

    @property
    def seen(self) -> Array:
        """Slots of the classes with at least one image, ascending, int64."""
        return np.flatnonzero(self.count > 0)

    def copy(self) -> ClassStatistics:
        """Return an independent copy."""
        copy = ClassStatistics(self.mean, self.count, self.scatter, self.shrinkage)
        copy._factor, copy._centre = self._factor, self._centre  # never changed in place
        return copy

    def arrays(self) -> dict[str, Array]:
        """Return copies of mean, count and scatter by name."""
        return {"mean": self.mean.copy(), "count": self.count.copy(), "scatter": self.scatter.copy()}

    def update(self, feature: Array, label: int) -> None:
        """Take in one image: `feature` [d] in the features' own units, `label` its class slot."""
        if not 0 <= label < len(self.count):
            raise ValueError(f"label {label} is not a slot: give 0 to {len(self.count) - 1}")
        before = np.asarray(feature, np.float64) - self.mean[label]  # (d,)
        self.count[label] += 1.0
        self.mean[label] += before / self.count[label]
        after = np.asarray(feature, np.float64) - self.mean[label]
        self.scatter += np.outer(before, after)
        self._factor = self._centre = None

    def update_all(self, feature: Array, label: Array) -> None:
        """Take in images `feature` [N, d] of the slots `label` [N]: as `update` one by one, up to rounding.

        Sums of squares of two groups are joined as in Chan, Golub and LeVeque (1979).
        """
        feature, label = np.asarray(feature, np.float64), np.asarray(label)
        if len(wrong := label[(label < 0) | (label >= len(self.count))]):
            raise ValueError(f"label {wrong[0]} is not a slot: give 0 to {len(self.count) - 1}")
        for slot in np.unique(label):
            rows = feature[label == slot]  # (n, d)
            mean, old, n = rows.mean(axis=0), self.count[slot], float(len(rows))
            shift = mean - self.mean[slot]
            self.scatter += (rows - mean).T @ (rows - mean) + old * n / (old + n) * np.outer(shift, shift)
            self.count[slot] += n
            self.mean[slot] += shift * n / (old + n)
        self._factor = self._centre = None

    def covariance(self, shrinkage: float = 0.0) -> Array:
        """Return the shared within-class covariance [d, d], scatter / max(N - classes, 1).

        `shrinkage` (0..1) replaces that share of it by its mean variance times the identity. With no more images than
        classes there is no spread to estimate and the result is zero.
        """
        degrees = max(float(self.count.sum()) - len(self.seen), 1.0)
        covariance = self.scatter + self.scatter.T  # symmetric up to rounding before
        covariance /= 2.0 * degrees
        variance = float(np.trace(covariance)) / len(covariance)
        covariance *= 1.0 - shrinkage
        np.einsum("ii->i", covariance)[:] += shrinkage * variance
        return covariance

    def sample(self, rng: np.random.Generator, rows: int) -> tuple[Array, Array]:
        """Draw features of the classes seen, every class equally often (up to one row).

        Returns:
            feature [rows, d] float32 and label [rows] int32.

        Raises:
            ValueError: no class has been seen.
        """
        if len(self.seen) == 0:
            raise ValueError("class statistics hold no image yet: update them before sampling")
        label = evenly(rng, self.seen, rows)
        noise = rng.standard_normal((rows, len(self.scatter)))  # (rows, d)
        return self.around(label, noise), label.astype(np.int32)

    def around(self, label: Array, noise: Array) -> Array:
        """Return a feature for each slot of `label` [n], float32 [n, d]: its class's mean and `noise` [n, d].

        Standard normal noise becomes what images differ by within a class.
        """
        feature = _correlated(noise, self._cholesky())  # (n, d)
        feature += self.mean[label]
        return np.asarray(feature, np.float32)

    def expect(self, rng: np.random.Generator, label: Array) -> Array:
        """Draw a feature for each slot of `label` as its class's next image is to be expected: float32 [rows, d].

        The mean of few images misses the true class mean by the spread of an image over the root of their number;
        `sample` takes it as it is. Here the true class mean is drawn too, from what is known of it (empirical Bayes,
        Efron and Morris 1973): class means scatter around their centre as the images do within a class, tau times as
        wide, so of n images' mean the share tau^2 / (tau^2 + 1/n) is kept, the rest is the centre's. With many the two
        agree.
        """
        return self.expected(label, rng.standard_normal((len(label), len(self.scatter))))

    def expected(self, label: Array, noise: Array) -> Array:
        """Return what `expect` does, of standard normal `noise` [rows, d]."""
        centre, tau_2 = self._prior()
        n = np.maximum(self.count[label], 1.0)  # (rows,)
        kept = tau_2 / (tau_2 + 1.0 / n) if math.isfinite(tau_2) else np.ones_like(n)
        mean: Array = centre + kept[:, None] * (self.mean[label] - centre)  # (rows, d)
        mean += _correlated(noise * np.sqrt(1.0 + kept / n)[:, None], self._cholesky())
        return np.asarray(mean, np.float32)

    def _prior(self) -> tuple[Array, float]:
        """Return the centre [d] of the class means and tau^2; infinite where there is nothing to judge it by."""
        if self._centre is None:
            self._centre = self._estimated()
        return self._centre

    def _estimated(self) -> tuple[Array, float]:
        seen, d = self.seen, len(self.scatter)
        centre = self.mean[seen].mean(axis=0)
        factor = self._cholesky()
        if len(seen) < 3 or not factor.any():
            return centre, math.inf
        white = _solved(factor, (self.mean[seen] - centre).T)  # (d, seen)
        between = float(np.sum(white**2)) / (d * (len(seen) - 1))
        return centre, max(between - float(np.mean(1.0 / self.count[seen])), 0.0)

    def _cholesky(self) -> Array:
        if self._factor is None:
            self._factor = _factor_of(self.covariance(self.shrinkage))
        return self._factor


def evenly(rng: np.random.Generator, slots: Array, rows: int) -> Array:
    """Return `rows` of `slots` in random order, each equally often (up to one row)."""
    rounds = -(-rows // len(slots))
    if rounds == 1:
        return rng.permutation(slots)[:rows]
    return rng.permuted(np.tile(slots, (rounds, 1)), axis=1).ravel()[:rows]  # the same numbers, in one call


def _factor_of(covariance: Array) -> Array:
    """Return L with L L' = covariance; a growing ridge makes up for a rank that few images leave short."""
    variance = float(np.trace(covariance)) / len(covariance)
    if not variance > 0.0:
        return np.zeros_like(covariance)
    ridge = 0.0
    while True:
        try:
            return np.asarray(np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)) if ridge else covariance))
        except np.linalg.LinAlgError:
            ridge = 10.0 * ridge or 1e-9 * variance
            if ridge > variance:
                raise


def _solved(factor: Array, right: Array) -> Array:
    """Return X with factor X = right, [d, n], for a lower triangle `factor` [d, d]: block by block, from the top."""
    solution = np.array(right)
    for start in range(0, len(factor), BLOCK):
        rows = slice(start, start + BLOCK)
        solution[rows] -= factor[rows, :start] @ solution[:start]
        solution[rows] = np.linalg.solve(factor[rows, rows], solution[rows])
    return solution


def _correlated(noise: Array, factor: Array) -> Array:
    """Return noise factor' for `noise` [n, d] and a lower triangle `factor` [d, d], without the zeros' products."""
    product = np.empty(noise.shape)
    for start in range(0, len(factor), STRIP):
        end = start + STRIP
        np.matmul(noise[:, :end], factor[start:end, :end].T, out=product[:, start:end])
    return product
