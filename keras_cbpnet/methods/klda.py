"""Kernel linear discriminant analysis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.methods.method import Row, Seen
from keras_cbpnet.methods.summing import SummingMethod

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces
    from keras_cbpnet.layers.klda_head import KLDAHead
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class KLDA(SummingMethod):
    """Class means and one covariance of random Fourier features of the frozen ones.

    Source: Momeni, Mazumder and Liu, arXiv 2412.15571.
    Deviations: those of `KLDAHead`; one set of random features, no ensemble of several.
    """

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        from keras_cbpnet.layers.klda_head import KLDAHead

        return KLDAHead(slots, name="head")

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        head = cast("KLDAHead", model.head)
        head.learn(head.add(seen.features, seen.labels))
        return iter(())
