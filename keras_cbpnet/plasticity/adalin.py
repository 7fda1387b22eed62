"""Adaptive linearity (AdaLin)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from keras_cbpnet.head.equations import Head, State
from keras_cbpnet.lazy import ops
from keras_cbpnet.plasticity.rule import Rule


class AdaLinHead(Head):
    """The head with hidden activations relu(x) + alpha x [x <= 0], a slope `alpha` [h] that each unit learns."""

    def _activate(self, state: Mapping[str, Any], pre: Any) -> Any:
        return ops.relu(pre) - state["alpha"] * ops.relu(-pre)

    def _activate_backward(self, state: Mapping[str, Any], pre: Any, d_hidden: Any) -> tuple[Any, State]:
        positive = ops.cast(pre > 0, "float32")
        d_pre = d_hidden * (positive + (1.0 - positive) * state["alpha"])
        return d_pre, {"alpha": -ops.sum(d_hidden * ops.relu(-pre), axis=0)}


@dataclasses.dataclass(frozen=True)
class AdaLin(Rule):
    """Every unit learns how much linearity to add where its activation is saturated.

    Source: Rohani et al., Preserving plasticity in continual learning with adaptive linearity injection, arXiv
    2505.09486 (2025): f(x) = phi(x) + alpha x cos(pi/2 |phi'(x)|), with ReLU a PReLU for every unit.
    Deviations: none in the equation; alpha is trained by the head's Adam at the rate of the block's weights.

    Attributes:
        alpha: every unit's slope before the first step.
    """

    head_class: ClassVar[type[Head]] = AdaLinHead

    alpha: float = 0.25

    def start(self, state: Mapping[str, Any]) -> State:
        zero = ops.zeros_like(state["b1"])
        return {**state, "alpha": zero + self.alpha, "m_alpha": zero, "v_alpha": zero}
