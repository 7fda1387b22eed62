"""FOSTER."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_host.shared.foster import Foster, learn
from keras_cbpnet.config import HeadConfig, TrainConfig
from keras_cbpnet.methods.method import Method, Row, Seen, block_head

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class FosterMethod(Method):
    """A second module is boosted on what the first gets wrong, then both are compressed into one block.

    Source: Wang et al., arXiv 2204.04662, on frozen features; the module is the block `residual` of `--units` hidden
    units, so a compressed net is a head that converts and learns on.
    Deviations: old classes are drawn from class statistics, not from kept images; Adam instead of SGD, half of
    `--head-epochs` for each phase; the student begins as the second module; one weight beta for all tasks.
    """

    options = ("plasticity",)

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        from keras_cbpnet.layers.cbp_head import CBPHead

        own = ("units", "batch", "decay_rate", "replacement_rate", "maturity_threshold", "learning_rate")
        sizes = HeadConfig(block="residual", slots=slots, **{name: getattr(config, name) for name in own})
        return CBPHead(sizes, config.plasticity, config.seed, own_step=True, name="head")

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        head = block_head(model)
        mean, scale = np.asarray(head.feature_mean), np.asarray(head.feature_scale)
        state = {name: np.array(value) for name, value in head.state.items()}
        settings = Foster(epochs=max(1, config.head_epochs // 2), rate=config.learning_rate)

        def scaled(feature: Any) -> Any:
            return (feature - mean) / scale

        for row in learn(state, scaled, seen.features, seen.labels, seen.statistics, settings, seen.rng):
            yield {**row, "replaced": 0.0}
        head.assign(state)
