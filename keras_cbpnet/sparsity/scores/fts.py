"""Fisher-Taylor sensitivity (arXiv 2502.11450), with the sign of pruning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.sparsity.members import Members


def score(members: Members, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the expected rise of the loss without each member, float64 [F]: -g + B / 2 * mean(g_b^2).

    To second order, with the Fisher information for the Hessian; a gate goes from 1 to 0. The published code adds the
    first term, which is the loss of a step in the other direction. Negative: the network is better without.
    """
    return -members.gradient + members.batch / 2 * members.square
