"""Base of the heads whose weights are computed from sums over the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.head.equations import masked

# Dimensions: N images, B of a batch, d feature size, M size of what the classifier sees, C class slots.


class ClosedFormHead(keras.layers.Layer):
    """A linear classifier over C slots after `expand`; no step of gradient descent anywhere.

    Args:
        slots: C.
    """

    compiled = False

    def __init__(self, slots: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slots = slots

    def build(self, input_shape: Any) -> None:
        self.width = input_shape[-1]
        self.kernel = self._sum("kernel", self.size, self.slots)
        self.bias = self._sum("bias", self.slots)
        self.class_mask = self._sum("class_mask", self.slots)

    @property
    def size(self) -> int:
        """M."""
        return self.width

    def _sum(self, name: str, *shape: int) -> Any:
        return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)

    def expand(self, feature: Any) -> Any:
        """Return what the classifier sees, float32 [B, M], of `feature` [B, d]."""
        return feature

    def call(self, feature: Any) -> Any:
        """Return the logits, float32 [B, C], of `feature` [B, d]; -1e9 for classes not seen yet."""
        logits = ops.matmul(self.expand(feature), self.kernel) + self.bias
        return masked(logits, ops.convert_to_tensor(self.class_mask))

    def standardise(self, features: np.ndarray) -> None:
        """Take nothing from the first task's features [N, d]."""

    def open(self, slots: Sequence[int]) -> None:
        """Let the classes of `slots` take part."""
        mask = ops.convert_to_numpy(self.class_mask).copy()
        mask[list(slots)] = 1.0
        self.class_mask.assign(mask)

    def observe_all(self, statistics: ClassStatistics) -> None:
        """Take nothing from the class means alone."""

    def begin_task(self) -> None:
        """Do nothing between two tasks."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slots": self.slots}
