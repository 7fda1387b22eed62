"""Weight decay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_cbpnet.head.equations import State
from keras_cbpnet.plasticity.rule import Rule, trained


@dataclasses.dataclass(frozen=True)
class L2(Rule):
    """Every trained tensor shrinks by the share learning_rate * decay at each step.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019 (AdamW); as a remedy against loss of
    plasticity: Dohare et al., Nature 632 (2024).
    Deviations: decoupled from Adam, where Dohare et al. add the penalty to the loss: the better of the two with Adam.

    Attributes:
        decay: share of a weight lost per step and unit of learning rate.
    """

    decay: float = 0.1

    def after_step(self, before: Mapping[str, Any], after: State, learning_rate: Any, seed: Any) -> State:
        share = learning_rate * self.decay
        return {**after, **{name: after[name] - share * before[name] for name in trained(after)}}
