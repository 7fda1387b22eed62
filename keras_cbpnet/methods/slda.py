"""Streaming linear discriminant analysis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.methods.method import Method, Row, Seen

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class SLDA(Method):
    """Class means and one covariance of the frozen features, both running over all images so far.

    Source: Hayes and Kanan, arXiv 1909.01520.
    Deviations: the covariance starts from nothing instead of a base set, and is shrunk by 1 % of its mean variance
    instead of 1e-4.
    """

    in_bundle = False

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        from keras_cbpnet.layers.slda_head import SLDAHead

        return SLDAHead(slots, name="head")

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        model.head.learn(seen.statistics)
        return iter(())
