"""Streaming linear discriminant analysis."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.layers.closed_form import ClosedFormHead

# Dimensions: d feature size, C class slots.


@keras.saving.register_keras_serializable("keras_cbpnet")
class SLDAHead(ClosedFormHead):
    """w_c = P m_c, b_c = -m_c P m_c / 2, with class means m_c and P the inverse of the shared covariance.

    Hayes and Kanan, Lifelong machine learning with deep streaming linear discriminant analysis, arXiv 1909.01520.

    Args:
        slots: C.
        shrinkage: share of the identity, times the mean variance, in the covariance.
    """

    def __init__(self, slots: int = 16, shrinkage: float = 1e-2, **kwargs: Any) -> None:
        super().__init__(slots, **kwargs)
        self.shrinkage = shrinkage

    def learn(self, statistics: ClassStatistics) -> None:
        """Take the weights that `statistics` of all images so far give."""
        covariance = statistics.covariance(self.shrinkage)  # (d, d)
        if not np.trace(covariance) > 0:  # one image a class: nothing is known but the means
            covariance = np.eye(len(covariance))
        kernel = np.linalg.solve(covariance, statistics.mean.T)  # (d, C)
        self.kernel.assign(kernel.astype(np.float32))
        self.bias.assign((-0.5 * np.sum(kernel * statistics.mean.T, axis=0)).astype(np.float32))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shrinkage": self.shrinkage}
