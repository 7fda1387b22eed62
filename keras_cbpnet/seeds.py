"""Seeds of any size for generators that take few bits."""

from __future__ import annotations

import numpy as np

__all__ = ["folded"]


def folded(seed: int, bits: int = 32) -> int:
    """Return a seed of at most `bits` bits (32 or fewer): the same if it has no more, else a number drawn from it."""
    if 0 <= seed < 1 << bits:
        return seed
    return int(np.random.SeedSequence(abs(seed)).generate_state(1)[0]) >> (32 - bits)
