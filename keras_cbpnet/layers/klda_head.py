"""Kernel linear discriminant analysis."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.layers.slda_head import SLDAHead

# Dimensions: N images, B of a batch, d feature size, M random features, C class slots.


@keras.saving.register_keras_serializable("keras_cbpnet")
class KLDAHead(SLDAHead):
    """Linear discriminant analysis of phi(x) = sqrt(2 / M) cos(sqrt(2 gamma) x R + b), R ~ N(0, 1), b ~ U(0, 2 pi).

    phi(x) phi(y)' approximates the kernel exp(-gamma |x - y|^2) (Rahimi and Recht 2007). Momeni, Mazumder and Liu,
    Continual learning using a kernel-based method over foundation models, AAAI 2025, arXiv 2412.15571. Ours: gamma is
    `reach` over the variance of the first task's images, where the paper tunes it for each backbone; M is 2,000 for
    features of 192 numbers (there 5,000 for 768 and more); the covariance is shrunk as in `SLDAHead` and inverted,
    where the paper takes the pseudo-inverse of the scatter.

    Args:
        slots: C.
        shrinkage: share of the identity, times the mean variance, in the covariance.
        projected: M.
        reach: gamma times the variance of the features, summed over their dimensions.
    """

    def __init__(
        self, slots: int = 16, shrinkage: float = 1e-2, projected: int = 2000, reach: float = 0.01, **kwargs: Any
    ) -> None:
        super().__init__(slots, shrinkage, **kwargs)
        self.projected, self.reach = projected, reach

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        normal, turn = keras.initializers.RandomNormal(stddev=1.0), keras.initializers.RandomUniform(0, 2 * math.pi)
        shape = self.width, self.projected
        self.projection = self.add_weight(name="projection", shape=shape, initializer=normal, trainable=False)
        self.phase = self.add_weight(name="phase", shape=shape[1:], initializer=turn, trainable=False)
        self.gamma = self._sum("gamma")
        self.mean = self._sum("mean", self.slots, self.projected)
        self.count = self._sum("count", self.slots)
        self.scatter = self._sum("scatter", self.projected, self.projected)

    @property
    def size(self) -> int:
        """M."""
        return self.projected

    def standardise(self, features: np.ndarray) -> None:
        """Take gamma from the first task's `features` [N, d]."""
        self.gamma.assign(self.reach / (float(features.var(axis=0, dtype=np.float64).sum()) or 1.0))

    def expand(self, feature: Any) -> Any:
        angle = ops.matmul(feature, ops.sqrt(2 * self.gamma) * self.projection) + self.phase
        return math.sqrt(2 / self.projected) * ops.cos(angle)

    def add(self, features: NDArray[np.float32], labels: NDArray[np.int32]) -> ClassStatistics:
        """Add a task's `features` [N, d], `labels` [N] their slots; return the statistics of every phi(x) so far."""
        sums = {"mean": self.mean, "count": self.count, "scatter": self.scatter}
        statistics = ClassStatistics(**{name: ops.convert_to_numpy(value) for name, value in sums.items()})
        for start in range(0, len(labels), 1000):
            rows = slice(start, start + 1000)
            statistics.update_all(ops.convert_to_numpy(self.expand(features[rows])), labels[rows])
        for name, value in statistics.arrays().items():
            sums[name].assign(value.astype(np.float32))
        return statistics

    def learn(self, statistics: ClassStatistics) -> None:
        """Take the weights that `statistics` of all phi(x) so far give."""
        centre = statistics.mean[statistics.seen].mean(axis=0)  # far from 0 for the spread: float32 would lose digits
        super().learn(ClassStatistics(statistics.mean - centre, statistics.count, statistics.scatter))
        kernel, bias = (ops.convert_to_numpy(value).astype(np.float64) for value in (self.kernel, self.bias))
        self.bias.assign((bias - centre @ kernel).astype(np.float32))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "projected": self.projected, "reach": self.reach}
