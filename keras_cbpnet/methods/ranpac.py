"""RanPAC."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.layers.ranpac_head import RanPACHead
from keras_cbpnet.methods.method import Method, Row
from keras_cbpnet.models.cbpnet import CBPNet


class RanPAC(Method):
    """Ridge regression on random ReLU features of the frozen ones.

    Source: McDonnell et al., arXiv 2307.02251.
    Deviations: those of `RanPACHead`; no adaptation of the backbone on the first task.
    """

    in_bundle = False

    def head(self, config: TrainConfig, slots: int) -> keras.layers.Layer:
        return RanPACHead(slots, name="head")

    def learn_head(
        self,
        model: CBPNet,
        features: NDArray[np.float32],
        labels: NDArray[np.int32],
        statistics: ClassStatistics,
        config: TrainConfig,
        rng: np.random.Generator,
    ) -> Iterator[Row]:
        yield {"ridge": model.head.learn(features, labels, rng)}
