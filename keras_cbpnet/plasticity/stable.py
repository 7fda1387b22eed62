"""Selective retraining: the units that are used most are kept as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_cbpnet.head.equations import Head, State
from keras_cbpnet.lazy import ops
from keras_cbpnet.plasticity.rule import Rule


@dataclasses.dataclass(frozen=True)
class Stable(Rule):
    """At the beginning of a task the most active units are called stable, and their weights no longer change in it.

    Source: ConSense, arXiv 2502.17483 (AAAI 2025), whose model WECAR, arXiv 2503.07669, runs on devices: the most
    active 16 % of a layer's units are stable, weights between stable units are frozen.
    Deviations: the block has one hidden layer between features and outputs that have no units of their own, so a stable
    unit keeps its column of w1, its element of b1 and its row of w2; activity is the running mean of the state.

    Attributes:
        share: of the hidden units.
    """

    share: float = 0.16

    def start(self, state: Mapping[str, Any]) -> State:
        return {**state, "stable": ops.zeros_like(state["b1"])}

    def begin_task(self, head: Head, state: Mapping[str, Any], seed: Any) -> State:
        activity = state["mean_activation"]  # (h,)
        units = activity.shape[0]
        rank = ops.argsort(ops.argsort(-activity))  # 0 for the most active, the lowest index on a tie
        return {**state, "stable": ops.cast(rank < round(min(self.share, 1.0) * units), "float32")}

    def after_step(self, before: Mapping[str, Any], after: State, learning_rate: Any, seed: Any) -> State:
        stable, held = before["stable"], dict(after)  # (h,)
        for name in ("w1", "b1", "w2"):
            kept = stable[:, None] if name == "w2" else stable
            for tensor in (each for each in (name, f"m_{name}", f"v_{name}") if each in after):
                held[tensor] = after[tensor] * (1.0 - kept) + before[tensor] * kept
        return held
