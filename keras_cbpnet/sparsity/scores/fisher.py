"""Fisher information of a gate (Theis et al., arXiv 1801.05787)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.sparsity.members import Members


def score(members: Members, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return B / 2 * mean(g_b^2) of each member's gate, float64 [F]."""
    return members.batch / 2 * members.square
