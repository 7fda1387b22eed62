"""First-order Taylor expansion (Molchanov et al., arXiv 1611.06440)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.sparsity.members import Members


def score(members: Members, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return |g| of each member's gate, float64 [F]."""
    return np.abs(members.gradient)
