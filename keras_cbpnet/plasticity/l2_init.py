"""Weight decay towards the initial weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_cbpnet.head.equations import State
from keras_cbpnet.plasticity.rule import Rule, trained


@dataclasses.dataclass(frozen=True)
class L2Init(Rule):
    """Every trained tensor moves towards its initial value by the share learning_rate * decay at each step.

    Source: Kumar, Marklund and Van Roy, Maintaining plasticity in continual learning via regenerative regularization,
    arXiv 2308.11958 (2023).
    Deviations: decoupled from Adam, like `l2`, where the paper adds |w - w_0|^2 to the loss.

    Attributes:
        decay: share of the way lost per step and unit of learning rate.
    """

    decay: float = 0.1

    def start(self, state: Mapping[str, Any]) -> State:
        return {**state, "initial_w1": state["w1"]}  # all others begin at zero

    def after_step(self, before: Mapping[str, Any], after: State, learning_rate: Any, seed: Any) -> State:
        share = learning_rate * self.decay
        pulled = {name: after[name] - share * before[name] for name in trained(after)}
        pulled["w1"] = pulled["w1"] + share * before["initial_w1"]
        return {**after, **pulled}
