"""No score at all: the control."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.sparsity.members import Members


def score(members: Members, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return numbers drawn from `rng`, float64 [F]."""
    return rng.random(len(members.weight))
