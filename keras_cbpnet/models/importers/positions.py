"""Position embeddings of another image size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.lazy import ops

# Dimensions: N tokens, G rows and columns of patches (N = G * G + 1), D width.
POSITION = "embedding/position"


def interpolate(position: NDArray[np.float32], tokens: int) -> NDArray[np.float32]:
    """Return the position embeddings for another number of patches: bicubic, antialiased where it shrinks.

    The same as timm's `resample_abs_pos_embed`. The class token's row stays as it is; where there is none, as in
    DeiT-III and in DINOv2 with registers, nothing is added to that token.

    Args:
        position: float32 [1, N, D], the class token's row first, if there is one, then those of a square grid.
        tokens: N wanted.

    Returns:
        float32 [1, tokens, D]; `position` itself where it has that many rows.
    """
    if math.isqrt(position.shape[1]) ** 2 == position.shape[1]:
        position = np.pad(position, ((0, 0), (1, 0), (0, 0)))
    if position.shape[1] == tokens:
        return position
    old, new = math.isqrt(position.shape[1] - 1), math.isqrt(tokens - 1)
    first, grid = position[:, :1], position[:, 1:].reshape(1, old, old, -1)  # (1, 1, D), (1, G, G, D)
    grid = ops.image.resize(
        ops.convert_to_tensor(grid), (new, new), interpolation="bicubic", antialias=True, data_format="channels_last"
    )
    return np.concatenate([first, ops.convert_to_numpy(grid).reshape(1, new * new, -1)], axis=1)
