"""Label noise: labels that are probably wrong, because the head is sure of another class, move class means only.

A label that is doubted again and again is believed and trained on.
Dimensions: N images, d features, C slots.
"""

from __future__ import annotations

import numpy as np

from firmware_host.engines.protocol import Array, Head

__all__ = ["PATIENCE", "believed", "doubts"]

UNLIKELY, SURE = 0.1, 0.8  # probability of the class given, and of the one that the head sees
PATIENCE = 4  # labels of a class in a row that are doubted before one is believed


def doubts(head: Head, feature: Array, label: Array) -> Array:
    """Return for each feature [N, d] whether the head contradicts its label [N]: bool [N]."""
    probabilities = head.infer(feature)[1].astype(np.float64)  # (N, C)
    given = probabilities[np.arange(len(label)), label]
    contradicted: Array = (given < UNLIKELY) & (probabilities.max(axis=1) > SURE)
    return contradicted


def believed(head: Head, feature: Array, label: Array) -> Array:
    """Return the rows [n] of feature [N, d] to train on; a class that is mostly doubted is believed: it is new."""
    keep = ~doubts(head, feature, label)
    for slot in np.unique(label):
        mine = label == slot
        if 2 * np.count_nonzero(keep[mine]) <= np.count_nonzero(mine):
            keep[mine] = True
    return np.flatnonzero(keep)
