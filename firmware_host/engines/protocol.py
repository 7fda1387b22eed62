"""What every head engine offers, whichever runtime computes it.

Dimensions: n rows, d features, C class slots, B training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ["Array", "Head", "HeadState", "TrainResult"]

Array = np.ndarray[Any, Any]
HeadState = dict[str, Array]  # the tensors of a head, by name


class TrainResult(NamedTuple):
    """Outcome of one training step: loss, accuracy on the valid rows, index of the reset unit or -1."""

    loss: float
    accuracy: float
    replaced: int


class Head(Protocol):
    """A head that infers, observes and trains; its whole state goes in and out by name."""

    def infer(self, feature: Array) -> tuple[Array, Array]:
        """Return logits [n, C] and probabilities [n, C] for features [n, d]."""

    def observe(self, feature: Array, label: Array) -> None:
        """Take real images, feature [B, d] and label int32 [B] (-1 = empty row), into class_mean and class_count."""

    def train(self, feature: Array, label: Array, class_mask: Array, learning_rate: float, fresh: Array) -> TrainResult:
        """Make one training step; shapes as in the bundle's `train` signature."""

    def get_state(self) -> HeadState:
        """Return every state tensor by name, as it is now; what is to be changed has to be copied first."""

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Replace every state tensor."""
