"""How sure probabilities may be: the exponent that fits what labelled images gave before they were learned.

It changes how far probabilities are apart, never their order (temperature scaling, Guo et al. 2017). Dimensions: N
images, C class slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["Temperature"]

Array = np.ndarray[Any, Any]
PRIOR = 10.0  # what the exponent 1 counts for, in units of an image's information on its logarithm
FORGET = 0.9995  # of an image's share with every further one, as in `Novelty`
LIMIT = 1.5  # of the exponent's logarithm
STEPS = 5  # of Newton's method
WORST = 1e-3  # probability below which a loss counts no more


class Temperature:
    """The exponent, as a running estimate.

    Args:
        arrays: `sure` [2], the exponent's logarithm and the information that it rests on; they are changed in place.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.sure = arrays["sure"]

    def __call__(self, probabilities: Array) -> Array:
        """Return probabilities [N, C] that are as sure as they may be."""
        powered = probabilities.astype(np.float64) ** np.exp(self.sure[0])
        return np.asarray(powered / np.maximum(powered.sum(axis=1, keepdims=True), 1e-300), np.float32)

    def take(self, probabilities: Array, label: Array, share: float) -> None:
        """Fit the exponent to probabilities [N, C] and labels [N] of images that were not learned yet.

        Args:
            probabilities: as they are with the exponent 1.
            label: of the images.
            share: what images seen before still count for.
        """
        if not len(label):
            return
        possible = probabilities > 0
        z = np.log(np.where(possible, probabilities, 1.0).astype(np.float64))
        own = np.log(np.maximum(probabilities[np.arange(len(label)), label], WORST)).astype(np.float64)
        before, information = float(self.sure[0]), float(self.sure[1]) * share * FORGET ** len(label)
        found, new = before, 0.0
        for _ in range(STEPS):
            exponent = np.exp(found)
            p = np.where(possible, np.exp(exponent * z), 0.0)
            p /= p.sum(axis=1, keepdims=True)
            mean = np.sum(p * z, axis=1)
            new = float(np.sum(exponent**2 * (np.sum(p * z * z, axis=1) - mean**2)))
            slope = float(np.sum(exponent * (mean - own))) + (information + PRIOR) * (found - before)
            found = float(np.clip(found - slope / (new + information + PRIOR), -LIMIT, LIMIT))
        self.sure[:] = found, information + new
