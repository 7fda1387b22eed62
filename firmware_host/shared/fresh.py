"""The incoming weights of a new or reset hidden unit: w ~ U(-s, s), s = sqrt(6 / d) (He et al. 2015)."""

from __future__ import annotations

import math

__all__ = ["fresh_bound"]


def fresh_bound(d: int) -> float:
    """Return s for a unit with `d` inputs."""
    return math.sqrt(6.0 / d)
