"""Which members of a group are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["kept"]


def kept(scores: NDArray[np.float64], share: float) -> NDArray[np.intp]:
    """Return the members of the highest scores, in order of their index; of equal ones those of lower index.

    Args:
        scores: [F].
        share: of the members that are kept, above 0 and at most 1; at least one is.
    """
    count = max(1, round(share * len(scores)))
    return np.sort(np.argsort(-scores, kind="stable")[:count])
