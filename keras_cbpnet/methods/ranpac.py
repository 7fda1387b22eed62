"""RanPAC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.methods.method import Row, Seen
from keras_cbpnet.methods.summing import SummingMethod

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class RanPAC(SummingMethod):
    """Ridge regression on random ReLU features of the frozen ones.

    Source: McDonnell et al., arXiv 2307.02251.
    Deviations: those of `RanPACHead`; no adaptation of the backbone on the first task.
    """

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        from keras_cbpnet.layers.ranpac_head import RanPACHead

        return RanPACHead(slots, name="head")

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        yield {"ridge": model.head.learn(seen.features, seen.labels, seen.rng)}
