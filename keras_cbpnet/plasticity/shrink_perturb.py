"""Shrink and perturb."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_cbpnet.head.equations import Head, State
from keras_cbpnet.plasticity.rule import Rule, newborn_weights, trained


@dataclasses.dataclass(frozen=True)
class ShrinkPerturb(Rule):
    """At the beginning of a task all weights shrink, and a share of freshly initialised ones is added.

    Source: Ash and Adams, On warm-starting neural network training, NeurIPS 2020.
    Deviations: Adam's slots are kept; what is added is drawn as the initial weights are, so only w1 is perturbed.

    Attributes:
        shrink: factor on every trained tensor.
        perturb: factor on the fresh weights that are added.
    """

    shrink: float = 0.5
    perturb: float = 0.5

    def begin_task(self, head: Head, state: Mapping[str, Any], seed: Any) -> State:
        new = {**state, **{name: self.shrink * state[name] for name in trained(state)}}
        new["w1"] = new["w1"] + self.perturb * newborn_weights(state, seed)
        return new
