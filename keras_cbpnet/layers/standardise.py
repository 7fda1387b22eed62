"""The constants that standardise a head's features, taken once from those of the first task."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Dimensions: N images, d feature size.


def mean_and_scale(features: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return mean and scale, each [d], of x = (feature - mean) / scale from `features` [N, d].

    The scale is the standard deviation, but a dimension that hardly varies is scaled like the average one, so that it
    cannot explode later.
    """
    deviation = features.std(axis=0)
    typical = float(np.sqrt(np.mean(deviation**2))) or 1.0
    return features.mean(axis=0), np.maximum(deviation, 0.1 * typical)
