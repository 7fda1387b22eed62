"""Folded into a block's dense layers: the norms' scale and offset, and layer scale (arXiv 2103.17239)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

AFTER = {"norm1": ("query", "key", "value"), "norm2": ("expand",)}
BEFORE = {"scale1": "output", "scale2": "contract"}


def fold_norms(arrays: Mapping[str, NDArray[np.float32]], depth: int) -> dict[str, NDArray[np.float32]]:
    """Return `arrays` without the norms inside the blocks; the function they describe is the same.

    A norm there gives x * scale + offset to a dense layer alone, so (x * scale + offset) W + b = x W' + b' with
    W' = diag(scale) W and b' = b + offset W. Computed in float64. The last norm keeps its scale and offset.

    Args:
        arrays: float32, by name; `block_0/norm1/scale` [D], `block_0/query/kernel` [D, D] and so on.
        depth: number of blocks.
    """
    folded = dict(arrays)
    for block in range(depth):
        for norm, layers in AFTER.items():
            scale, offset = (folded.pop(f"block_{block}/{norm}/{part}").astype(float) for part in ("scale", "offset"))
            for layer in layers:
                name = f"block_{block}/{layer}"
                kernel = folded[f"{name}/kernel"].astype(float)
                folded[f"{name}/kernel"] = (scale[:, None] * kernel).astype(np.float32)
                folded[f"{name}/bias"] = (folded[f"{name}/bias"] + offset @ kernel).astype(np.float32)
    return folded


def fold_layer_scale(arrays: Mapping[str, NDArray[np.float32]], depth: int) -> dict[str, NDArray[np.float32]]:
    """Return `arrays` without layer scale, where there is any; the function they describe is the same.

    It multiplies what a dense layer gives: (x W + b) * scale = x W' + b' with W' = W diag(scale) and b' = b * scale.

    Args:
        arrays: float32, by name; `block_0/scale1` [D], `block_0/output/kernel` [D, D] and so on.
        depth: number of blocks.
    """
    folded = dict(arrays)
    for block in range(depth):
        for scale, layer in BEFORE.items():
            factor = folded.pop(f"block_{block}/{scale}", None)
            if factor is not None:
                for part in ("kernel", "bias"):
                    folded[f"block_{block}/{layer}/{part}"] = folded[f"block_{block}/{layer}/{part}"] * factor
    return folded
