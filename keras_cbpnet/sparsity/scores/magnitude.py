"""Size of the weights (Han et al., arXiv 1506.02626)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.sparsity.members import Members


def score(members: Members, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the length of each member's incoming weights times that of its outgoing ones, float64 [F]."""
    return members.weight
