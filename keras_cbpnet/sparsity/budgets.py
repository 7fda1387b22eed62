"""Masks: which weights of which layers stay, for a budget over all of them.

Every function is exact: so many members as the budget says, ties by the lower index, so that a mask is the same on
every machine. A layer's members are the entries of its kernel, any shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.errors import UserError

__all__ = ["BUDGETS", "Mask", "centred", "check_density", "densities", "masks", "swapped", "top"]

Mask = NDArray[np.bool_]
Scores = NDArray[np.floating[Any]]
BUDGETS = ("global", "layer", "erk")


def check_density(density: float) -> None:
    """Refuse a density that leaves nothing or more than all.

    Raises:
        UserError: it is not above 0 and at most 1.
    """
    if not 0.0 < density <= 1.0:
        raise UserError(f"density is {density:g}; give the share of the weights that stays, above 0 and at most 1")


def top(scores: Scores, count: int) -> Mask:
    """Return the mask of the `count` largest of `scores`, of their shape; of equal ones those with lower indices."""
    order = np.argsort(-scores.ravel(), kind="stable")[:count]
    mask = np.zeros(scores.size, bool)
    mask[order] = True
    return mask.reshape(scores.shape)


def densities(shapes: Sequence[tuple[int, ...]], density: float, budget: str = "erk") -> list[float]:
    """Return the share of weights that stays in each layer, for a share `density` of all of them.

    `layer`: the same in each. `erk` (Evci et al., RigL, arXiv 1911.11134): in proportion to the sum of a kernel's sides
    over their product; a layer that would keep more than all keeps all, and the others share what is left, until none
    exceeds it. Public code often clips without sharing again, and so misses the budget.

    Raises:
        UserError: the budget is unknown or `global`, which has no densities before the scores, or the density is not
            possible.
    """
    check_density(density)
    if budget == "layer":
        return [density] * len(shapes)
    if budget != "erk":
        raise UserError(f"budget {budget!r} has no densities of its own; choose layer or erk")
    size = np.array([np.prod(shape) for shape in shapes], np.float64)
    raw = np.array([sum(shape) for shape in shapes], np.float64) / size
    dense = np.zeros(len(shapes), bool)
    while True:
        left = density * size.sum() - size[dense].sum()
        share = np.where(dense, 1.0, left / max(float((raw * size)[~dense].sum()), 1e-300) * raw)
        over = (share > 1.0) & ~dense
        if not over.any():
            return [float(each) for each in np.minimum(share, 1.0)]
        dense |= over


def masks(scores: Sequence[Scores], density: float, budget: str = "erk") -> list[Mask]:
    """Return a mask for the scores of each layer: the largest stay, a share `density` of all of them.

    Args:
        scores: of each layer's weights, each of its kernel's shape.
        density: above 0 and at most 1.
        budget: `global` compares the scores of all layers, `layer` and `erk` those within one; see `densities`.

    Raises:
        UserError: as `densities`; or the budget is unknown.
    """
    check_density(density)
    if budget not in BUDGETS:
        raise UserError(f"budget {budget!r} is unknown; choose one of {', '.join(BUDGETS)}")
    if budget == "global":
        flat = np.concatenate([each.ravel() for each in scores])
        mask = top(flat, round(density * flat.size))
        ends = np.cumsum([each.size for each in scores])[:-1]
        return [part.reshape(each.shape) for part, each in zip(np.split(mask, ends), scores, strict=True)]
    shares = densities([each.shape for each in scores], density, budget)
    return [top(each, round(share * each.size)) for each, share in zip(scores, shares, strict=True)]


def swapped(mask: Mask, keep: Scores, grow: Scores, count: int, share: float) -> Mask:
    """Return a mask of `count` members: of those in `mask` the `share` least by `keep` is dropped, then others grow.

    What was dropped may grow again only after all that never was there, as in RigL.

    Args:
        mask: of a layer.
        keep: scores of the members, such as magnitudes.
        grow: scores of the others, such as the size of the gradient.
        count: of members in the result.
        share: of the members that is dropped at least, 0..1.
    """
    members = int(mask.sum())
    stay = min(count, members - round(share * members))
    kept = top(np.where(mask, keep, -np.inf), stay)
    least = float(np.min(grow, initial=0.0)) - 1.0
    wanted = np.where(kept, -np.inf, np.where(mask, least, grow))
    grown: Mask = kept | top(wanted, count - stay)
    return grown


def centred(kernel: NDArray[np.floating[Any]], mask: Mask) -> NDArray[np.floating[Any]]:
    """Return `kernel` [rows, units] times `mask`, each row's mean over its members taken from them: zeros stay zeros.

    The kernels of a backbone have rows of mean 0, so that its tokens have; to subtract the mean from every entry would
    fill all zeros. A row with fewer than two members becomes 0, as no other row of one member has mean 0.
    """
    m = mask.astype(kernel.dtype)
    count = m.sum(axis=-1, keepdims=True)
    mean = (kernel * m).sum(axis=-1, keepdims=True) / np.maximum(count, 1)
    return np.where(count < 2, 0, m * (kernel - mean)).astype(kernel.dtype)
