"""A head whose state is read once after each change: for looks between training steps, and for predictions.

A runtime's `infer` sends every class mean through the block for each single feature. They only change when the head
learns; until then one product of matrices answers for any number of features.

Dimensions: n rows, d features, C class slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_host.engines.forward import Constants, Forward
from firmware_host.engines.protocol import Array, Head, HeadState, TrainResult

__all__ = ["KeptHead"]


class KeptHead:
    """A `Head` around another, which alone changes that one's state; inference is computed from the state, in NumPy.

    Args:
        head: what observes, trains and holds the state.
        config: the manifest's `head` section.
    """

    def __init__(self, head: Head, config: Mapping[str, Any]) -> None:
        self._head, self._constants = head, Constants.of(config)
        self._state: HeadState | None = None
        self._forward: Forward | None = None

    def infer(self, feature: Array) -> tuple[Array, Array]:
        if self._forward is None:
            self._forward = Forward(self._constants, self._known())
        return self._forward(feature)

    def observe(self, feature: Array, label: Array) -> None:
        self._forget()
        self._head.observe(feature, label)

    def train(self, feature: Array, label: Array, class_mask: Array, learning_rate: float, fresh: Array) -> TrainResult:
        self._forget()
        return self._head.train(feature, label, class_mask, learning_rate, fresh)

    def get_state(self) -> HeadState:
        return dict(self._known())

    def set_state(self, state: Mapping[str, Array]) -> None:
        self._forget()
        self._head.set_state(state)

    def _known(self) -> HeadState:
        if self._state is None:
            state = {name: np.asarray(value) for name, value in self._head.get_state().items()}
            for value in state.values():
                value.flags.writeable = False  # whoever asked for it keeps it
            self._state = state
        return self._state

    def _forget(self) -> None:
        self._state = self._forward = None
