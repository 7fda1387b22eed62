"""Drift detection: a head that notices when labels mean something else, a surprise, and resets its output layer.

The host trains by the same rule, `keras_cbpnet/plasticity/cbp_surprise.py`, where it is described. Here it stands
around a head that any runtime computes: the bundle's own step stays as the contract says.

Dimensions: B rows, d features, C class slots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_host.bundle import BLOCKS, Bundle
from firmware_host.engines.protocol import Array, Head, HeadState, TrainResult

__all__ = ["SurprisedHead", "noticing"]


class SurprisedHead:
    """A `Head` around another. Its state has one tensor more: `calm` [], training steps since the last surprise.

    Args:
        head: what infers, observes and trains.
        block: the head's.
        maturity: steps for which the output layer is spared after a surprise.
        calming: steps after a surprise in which the learning rate falls to a half; 0: it does not fall.
        calm: steps since the last surprise.
    """

    def __init__(self, head: Head, block: str, maturity: float, calming: float, calm: float) -> None:
        self._head, self._maturity, self._calming, self._calm = head, maturity, calming, calm
        self._cleared = [name for tensor in BLOCKS[block].last for name in (tensor, f"m_{tensor}")]

    def infer(self, feature: Array) -> tuple[Array, Array]:
        return self._head.infer(feature)

    def observe(self, feature: Array, label: Array) -> None:
        self._head.observe(feature, label)

    def train(self, feature: Array, label: Array, class_mask: Array, learning_rate: float, fresh: Array) -> TrainResult:
        rate = learning_rate / (1.0 + self._calm / self._calming) if self._calming else learning_rate
        result = self._head.train(feature, label, class_mask, rate, fresh)
        surprised = self._calm >= self._maturity and result.loss > math.log(max(float(np.sum(class_mask)), 1.0))
        self._calm += 1.0
        if surprised:
            state = self._head.get_state()
            cleared = {name: np.zeros_like(state[name]) for name in self._cleared if name in state}
            self._head.set_state({**state, **cleared})
            self._calm = 0.0
        return result

    def get_state(self) -> HeadState:
        return {**self._head.get_state(), "calm": np.array(self._calm, np.float32)}

    def set_state(self, state: Mapping[str, Array]) -> None:
        self._head.set_state({name: value for name, value in state.items() if name != "calm"})
        self._calm = float(state["calm"])


def noticing(bundle: Bundle, head: Head) -> Head:
    """Return `head`, or where the bundle's manifest asks for it under `head.surprise`, a SurprisedHead around it."""
    settings = bundle.head.get("surprise")
    if settings is None:
        return head
    c = bundle.head
    return SurprisedHead(head, c["block"], c["maturity_threshold"], settings["calming"], settings["calm"])
