"""Nearest class mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_cbpnet.config import HeadConfig, TrainConfig
from keras_cbpnet.methods.method import Method, Row, Seen

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class NearestClassMean(Method):
    """The class whose mean of frozen features has the largest cosine; nothing is trained.

    Source: Mensink et al., Distance-based image classification, TPAMI 2013; by cosine, as in Zhou et al., Revisiting
    class-incremental learning with pre-trained models, arXiv 2303.07338 (SimpleCIL).
    Deviations: features standardised by the first task's images. It is the head `prototype` before its first step.
    """

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        from keras_cbpnet.layers.cbp_head import CBPHead

        sizes = HeadConfig(block="prototype", units=1, slots=slots, batch=config.batch)
        return CBPHead(sizes, "none", own_step=True, name="head")

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        return iter(())
