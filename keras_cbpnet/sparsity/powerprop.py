"""Powerpropagation (arXiv 2110.00296): weights as powers, w = p |p|^(a - 1), so that small ones stay small.

Plain SGD on p moves a weight in proportion to its size; what ends near zero can be pruned without training again. Adam
and momentum undo most of it. After training w alone is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["slope", "started", "weights"]

Array = NDArray[np.floating[Any]]


def weights(p: Array, alpha: float) -> Array:
    """Return the weights that parameters `p`, any shape, stand for; `alpha` >= 1, where 1 leaves them as they are."""
    return p * np.abs(p) ** (alpha - 1)


def started(w: Array, alpha: float) -> Array:
    """Return the parameters that stand for the weights `w`."""
    return np.sign(w) * np.abs(w) ** (1 / alpha)


def slope(p: Array, alpha: float) -> Array:
    """Return dw / dp, with which a gradient by weights becomes one by `p`."""
    return alpha * np.abs(p) ** (alpha - 1)
