"""The bank alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_cbpnet.config import HeadConfig, TrainConfig
from keras_cbpnet.methods.method import Method, Row, Seen, mixed_head

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class BankMethod(Method):
    """Class means, one shared covariance and sixteen directions of each class; the likeliest four are judged again.

    Source: ours, on frozen features without prompts; its parts are streaming LDA (arXiv 1909.01520), probabilistic LDA
    for means of few images (Ioffe 2006), and Page's test for labels that change their meaning.
    Deviations: none. Beside it stands a block of one unit that is never trained, so that a device can go on with it.
    """

    needs_bank = True
    sees_views = True
    options = ("views",)

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        from keras_cbpnet.layers.mixed_head import MixedHead

        sizes = HeadConfig(block="residual", units=1, block_rate=0.0, slots=slots, batch=config.batch)
        return MixedHead(sizes, "none", block_weight=0.0, rebinds=config.stream == "drifting", name="head")

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        mixed_head(model).learn_bank(seen.features, seen.labels, seen.rng, seen.views)
        return iter(())
