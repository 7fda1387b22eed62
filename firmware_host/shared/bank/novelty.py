"""None of these: how novel an image is beside the labelled ones seen so far, by which a stated share is rejected.

Two signals: how unlikely an image is under the likeliest class, and how undecided the prediction is. Each is measured
in deviations of what labelled images of known classes gave before they were learned, so no other data are needed.
Another camera changes both signals of all images; how, some images of known classes tell (`Novelty.through`).
Dimensions: N images, C class slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["SAME_CAMERA", "Novelty", "signals"]

Array = np.ndarray[Any, Any]
LEAST, WIDTH = -5.0, 0.25  # of the histogram of scores: its lower end and the width of a bin
UNDECIDED = 1.25  # weight of the second signal
ODDS = 10.0  # at most, as a logarithm
FORGET = 0.9995  # an image counts for so much less with every further one: about the last 2,000 count
UNLIKE = 2.0  # deviations of the first signal that few images reach under their label
ENOUGH = 20.0  # images before anything is called novel
PRIOR = 10.0  # images that the host's deviations count for beside those through another camera
SAME_CAMERA = np.array([[0.0, 0.0], [1.0, 1.0]])  # see `Novelty.camera`


def signals(density: Array, probabilities: Array) -> Array:
    """Return both signals, [N, 2], of the largest log density [N] and the probabilities [N, C]."""
    best = np.clip(probabilities.max(axis=1).astype(np.float64), 1e-9, 1.0 - 1e-9)
    return np.stack([-density, -np.clip(np.log(best / (1.0 - best)), -ODDS, ODDS)], axis=1)


class Novelty:
    """What labelled images of known classes gave.

    Args:
        arrays: `usual` [6], discounted number of images, then mean and sum of squared deviations of each signal, and
            how many images the bank knew at the last one; `novelties`, the discounted histogram of their scores. They
            are changed in place.

    Attributes:
        camera: [2, 2], what the camera in use adds to the mean of each signal, and what it multiplies its deviation by.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.usual, self.novelties = arrays["usual"], arrays["novelties"]
        self.camera = SAME_CAMERA.copy()

    def through(self, found: Array) -> Array:
        """Return what `camera` is for signals [N, 2] of known images through another one that were not learned.

        A change of the mean that chance may explain is drawn to none (James and Stein 1961).
        """
        n = len(found)
        if float(self.usual[0]) < ENOUGH or not n:
            return SAME_CAMERA.copy()
        variance = np.square(self._deviation())
        squares = np.sum(np.square(found - found.mean(axis=0)), axis=0)
        pooled = (PRIOR * variance + squares) / (PRIOR + n - 1)
        change = found.mean(axis=0) - self.usual[[1, 3]]
        kept = np.maximum(0.0, 1.0 - pooled / n / np.maximum(np.square(change), 1e-12))
        return np.stack([kept * change, np.sqrt(pooled / variance)])

    def take(self, found: Array, known: float) -> None:
        """Take in the signals [N, 2] of images of known classes that were not learned yet.

        A bank of few images judges otherwise than one of many: what was seen when it knew half as many counts half.
        """
        if not len(found):
            return
        found = self._as_host(found)
        share = min(1.0, float(self.usual[5]) / max(known, 1.0))
        self.usual[[0, 2, 4]] *= share
        self.novelties *= share
        self.usual[5] = known
        for row in found:
            self.usual[[0, 2, 4]] *= FORGET
            self.usual[0] += 1.0
            for place, value in ((1, row[0]), (3, row[1])):
                before = value - self.usual[place]
                self.usual[place] += before / self.usual[0]
                self.usual[place + 1] += before * (value - self.usual[place])
        if self.usual[0] >= ENOUGH:
            for score in self._scores(found):
                self.novelties *= FORGET
                self.novelties[self._bin(score)] += 1.0

    def __call__(self, found: Array) -> Array:
        """Return for signals [N, 2] which share of known images is less novel, 0 to 1; 0 where that is not known."""
        total = float(self.novelties.sum())
        if total < ENOUGH:
            return np.zeros(len(found))
        below = np.concatenate([[0.0], np.cumsum(self.novelties)]) / total
        place = (self._scores(self._as_host(found)) - LEAST) / WIDTH
        return np.minimum(np.interp(place, np.arange(len(below)), below), 1.0)

    def unlike(self, density: Array) -> Array:
        """Return for log densities [N] under images' labels whether they are lower than those of most known images."""
        if float(self.usual[0]) < ENOUGH:
            return np.zeros(len(density), bool)
        signal = self._as_host(np.stack([-density, np.zeros(len(density))], axis=1))[:, 0]
        return np.asarray((signal - self.usual[1]) / self._deviation()[0] > UNLIKE)

    def _as_host(self, found: Array) -> Array:
        """Return signals [N, 2] as the host's camera would have given them."""
        if np.array_equal(self.camera, SAME_CAMERA):
            return found
        mean, (change, ratio) = self.usual[[1, 3]], self.camera
        return np.asarray(mean + (found - mean - change) / ratio)

    def _deviation(self) -> Array:
        """Return the deviation of each signal through the host's camera, [2]."""
        variance = self.usual[[2, 4]] / max(float(self.usual[0]), 1.0)
        return np.asarray(np.sqrt(np.maximum(variance, 1e-12)))

    def _scores(self, found: Array) -> Array:
        away = (found - self.usual[[1, 3]]) / self._deviation()
        return np.asarray(away[:, 0] + UNDECIDED * away[:, 1])

    def _bin(self, score: float) -> int:
        return int(np.clip((score - LEAST) / WIDTH, 0, len(self.novelties) - 1))
