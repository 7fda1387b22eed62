"""Streaming linear discriminant analysis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.layers.slda_head import SLDAHead
from keras_cbpnet.methods.method import Method, Row
from keras_cbpnet.models.cbpnet import CBPNet


class SLDA(Method):
    """Class means and one covariance of the frozen features, both running over all images so far.

    Source: Hayes and Kanan, arXiv 1909.01520.
    Deviations: the covariance starts from nothing instead of a base set, and is shrunk by 1 % of its mean variance
    instead of 1e-4.
    """

    in_bundle = False

    def head(self, config: TrainConfig, slots: int) -> keras.layers.Layer:
        return SLDAHead(slots, name="head")

    def learn_head(
        self,
        model: CBPNet,
        features: NDArray[np.float32],
        labels: NDArray[np.int32],
        statistics: ClassStatistics,
        *_: Any,
    ) -> Iterator[Row]:
        model.head.learn(statistics)
        return iter(())
