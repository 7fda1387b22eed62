"""Some rows of a data set that stand for all."""

# N images

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["drawn"]


def drawn(labels: NDArray[np.integer[Any]], count: int) -> NDArray[np.integer[Any]]:
    """Return at most `count` rows of `labels` [N], drawn at random and as evenly over the classes as there are rows."""
    order = np.random.default_rng(0).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)  # of each row within its class
    for label in np.unique(labels):
        own = labels[order] == label
        turn[own] = np.arange(own.sum())
    return np.sort(order[np.argsort(turn, kind="stable")][:count])
