"""OREPA: the kernel of a convolution as a sum of branches, which train better than the kernel alone and cost nothing.

Hu et al., Online convolutional re-parameterization, arXiv 2204.00826; the branches and their first factors are those of
the authors' code, whose batch norm after the convolution is not here: instead the factors are scaled so that the kernel
starts as large as He's.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

# Dimensions: k height and width of the kernel, i input channels, o output channels, e channels of the fifth branch.

FACTORS = (0.25, 0.25, 0.0, 0.5, 1.0, 0.5)  # at first: kernel, average, waves, 1x1 before k x k, 1x1, depthwise
EXPANSION = 8  # e / i


@keras.saving.register_keras_serializable("keras_cbpnet")
class OREPA(keras.layers.Layer):
    """W = v0 W0 + v1 A / k^2 + v2 F waves + v3 (I + B) C + v4 pad(D) + v5 (depthwise, pointwise); v per output channel.

    It is linear in each part: what it gives is the kernel of one ordinary convolution, during training and after.
    The names of its variables begin with `branch`, so that an optimizer can leave them without weight decay, which
    would shrink products twice.
    """

    def build(self, input_shape: Any) -> None:
        k, _, i, o = input_shape
        shapes = {
            "average": (1, 1, i, o),
            "wave": (1, 1, i, o),
            "expand": (k, k, i, o),
            "point": (1, 1, i, o),
            "deep": (k, k, 1, i * EXPANSION),  # fan-in of one channel
            "wide": (1, 1, i * EXPANSION, o),
        }
        for name, shape in shapes.items():
            setattr(self, name, self.add_weight(name=f"branch_{name}", shape=shape, initializer="he_uniform"))
        self.mix = self.add_weight(name="branch_mix", shape=(i, i), initializer="zeros")
        self.factors = self.add_weight(name="branch_factors", shape=(len(FACTORS), o), initializer="zeros")
        self.factors.assign(np.tile(np.array(FACTORS, np.float32)[:, None], (1, o)))
        self.waves = _waves(k, o)  # (k, k, o)
        self.middle = np.zeros((k, k, 1, 1), np.float32)
        self.middle[k // 2, k // 2] = 1.0

    def start(self, kernel: Any) -> None:
        """Scale the factors so that the sum with `kernel` [k, k, i, o] has the deviation sqrt(2 / (k k i))."""
        k, _, i, _ = kernel.shape
        deviation = float(np.std(np.asarray(self(kernel))))
        self.factors.assign(self.factors * (math.sqrt(2.0 / (k * k * i)) / deviation))

    def call(self, kernel: Any) -> Any:
        """Return the kernel [k, k, i, o] that all branches are together; `kernel` [k, k, i, o] is one of them."""
        k, _, i, o = kernel.shape
        average = self.average / (k * k) * np.ones((k, k, 1, 1), np.float32)
        wave = self.wave * self.waves[:, :, None]
        expand = ops.einsum("it,hwto->hwio", self.mix + np.eye(i, dtype=np.float32), self.expand)
        deep = ops.reshape(self.deep, (k, k, i, EXPANSION))
        wide = ops.reshape(self.wide, (i, EXPANSION, o))
        depthwise = ops.einsum("hwie,ieo->hwio", deep, wide)
        branches = (kernel, average, wave, expand, self.point * self.middle, depthwise)
        return sum(self.factors[n] * branch for n, branch in enumerate(branches))


def _waves(k: int, o: int) -> np.ndarray:
    """Return cosines of growing frequency, [k, k, o]: down the kernel for half of the channels, else across."""
    place, channel = (np.arange(k) + 0.5) / k, np.arange(o)
    down = channel < o / 2
    frequency = np.where(down, channel + 1, channel + 1 - o / 2)
    wave = np.cos(math.pi * place[:, None] * frequency)  # (k, o)
    return np.where(down, wave[:, None, :], wave[None, :, :]).astype(np.float32)
