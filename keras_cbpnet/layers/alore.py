"""ALoRE: a linear adapter of several low-rank experts that share a bottleneck, merged into what follows it.

Du et al., ALoRE: Efficient visual adaptation via aggregating low rank experts, arXiv 2412.08341. No code is public; it
is a reconstruction from the text, and initial values are those of RepAdapter (arXiv 2302.08106).
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

# Dimensions: B rows, d width, n experts, r rank.


@keras.saving.register_keras_serializable("keras_cbpnet")
class ALoRE(keras.layers.Layer):
    """x + x W_down W_up, with W_down = sum_i A_i (x) B_i [d, r] and W_up = sum_i C_i (x) D_i [r, d].

    (x) is Kronecker's product; A_i and C_i [n, n], B_i [d/n, r/n], D_i [r/n, d/n]. D starts at zero, so that the layer
    starts as the identity. It is linear: `merge` puts it into a dense layer that follows.

    Args:
        experts: n; divides d and the rank.
        rank: r.

    Raises:
        ValueError: `experts` does not divide both.
    """

    def __init__(self, experts: int = 4, rank: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if experts < 1 or rank % experts:
            raise ValueError(f"experts must divide rank, got {experts} experts and rank {rank}")
        self.experts, self.rank = experts, rank

    def build(self, input_shape: Any) -> None:
        n, r, d = self.experts, self.rank, input_shape[-1]
        if d % n:
            raise ValueError(f"experts must divide the width, got {n} experts and width {d}")

        def start(deviation: float) -> Any:
            return keras.initializers.RandomNormal(stddev=deviation)

        xavier = math.sqrt(2.0 / (d / n + r / n) / n)
        self.mix_down = self.add_weight(name="mix_down", shape=(n, n, n), initializer=start(1.0 / n))
        self.down = self.add_weight(name="down", shape=(n, d // n, r // n), initializer=start(xavier))
        self.mix_up = self.add_weight(name="mix_up", shape=(n, n, n), initializer=start(1.0 / n))
        self.up = self.add_weight(name="up", shape=(n, r // n, d // n), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        low = ops.matmul(inputs, _kronecker(self.mix_down, self.down))  # (..., r)
        return inputs + ops.matmul(low, _kronecker(self.mix_up, self.up))

    def merge(self, kernel: Any, bias: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return kernel [d, units] and bias [units] of the dense layer that does what this and then that one does."""
        down, up = (np.asarray(_kronecker(*pair), np.float64) for pair in self._pairs)
        kernel = np.asarray(kernel, np.float64)
        return (kernel + down @ (up @ kernel)).astype(np.float32), np.asarray(bias, np.float32)

    @property
    def _pairs(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        return (self.mix_down, self.down), (self.mix_up, self.up)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "experts": self.experts, "rank": self.rank}


def _kronecker(left: Any, right: Any) -> Any:
    """Return sum_i left_i (x) right_i of left [n, a, b] and right [n, p, q], float32 [a p, b q]."""
    left, right = ops.convert_to_tensor(left), ops.convert_to_tensor(right)
    (_, a, b), (_, p, q) = left.shape, right.shape
    return ops.reshape(ops.einsum("iab,ipq->apbq", left, right), (a * p, b * q))
