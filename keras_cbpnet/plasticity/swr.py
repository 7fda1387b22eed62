"""Selective weight reinitialization."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_cbpnet.head.equations import State
from keras_cbpnet.lazy import ops
from keras_cbpnet.plasticity.rule import Rule, every, newborn_weights, trained


@dataclasses.dataclass(frozen=True)
class Swr(Rule):
    """Every `interval` steps the least useful single weights of each tensor are initialised again.

    The utility of a weight is |gradient * weight|; those below `factor` times their tensor's average are replaced.

    Source: Hernandez-Garcia, Dohare, Luo and Sutton, Reinitializing weights vs units for maintaining plasticity in
    neural networks, arXiv 2508.00212 (2025): gradient utility, pruning by threshold, resampling.
    Deviations: the gradient is Adam's first moment, an average over some ten batches, instead of one batch's; all
    tensors but w1 begin at zero here, so their weights are replaced by zero.

    Attributes:
        factor: of the average utility up to which a weight is replaced.
        interval: steps between two replacements.
    """

    factor: float = 0.01
    interval: int = 160

    def after_step(self, before: Mapping[str, Any], after: State, learning_rate: Any, seed: Any) -> State:
        def replace() -> State:
            new = dict(after)
            for name in trained(after):
                utility = ops.abs(after[name] * after[f"m_{name}"])
                useless = ops.cast(utility <= self.factor * ops.mean(utility), "float32")
                new[name] = after[name] * (1.0 - useless)
                if name == "w1":
                    new[name] = new[name] + useless * newborn_weights(after, seed)
            return new

        return every(self.interval, after, replace)
