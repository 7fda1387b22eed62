"""Recycling dormant units (ReDo)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_cbpnet.config import HeadConfig
from keras_cbpnet.head.equations import State, one_minus_power, renew_units
from keras_cbpnet.lazy import ops
from keras_cbpnet.plasticity.rule import Rule, every, newborn_weights


@dataclasses.dataclass(frozen=True)
class ReDo(Rule):
    """Every `interval` steps all units whose mean activation is at most `threshold` of the average are reset.

    Source: Sokar et al., The dormant neuron phenomenon in deep reinforcement learning, ICML 2023, arXiv 2302.12902.
    Deviations: the mean activation is the running one of the state instead of one batch's.

    Attributes:
        threshold: tau, of a unit's activation relative to the average over all units.
        interval: steps between two inspections.
        decay_rate: of the running activations.
    """

    threshold: float = 0.1
    interval: int = 160
    decay_rate: float = 0.99

    def settings(self, config: HeadConfig) -> HeadConfig:
        return dataclasses.replace(super().settings(config), decay_rate=self.decay_rate)

    def after_step(self, before: Mapping[str, Any], after: State, learning_rate: Any, seed: Any) -> State:
        def recycle() -> State:
            activation = after["mean_activation"] / one_minus_power(self.decay_rate, after["age"])  # (h,)
            dormant = ops.cast(activation <= self.threshold * ops.mean(activation), "float32")
            new = dict(after)
            renew_units(new, dormant, newborn_weights(after, seed))
            return new

        return every(self.interval, after, recycle)
