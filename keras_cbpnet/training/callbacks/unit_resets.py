"""Continual backpropagation under `fit`: a callback that resets units after the optimizer's update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.cbp_head import CBPHead

__all__ = ["UnitResets", "heads_in"]


class UnitResets(keras.callbacks.Callback):
    """Resets the least useful units of every `CBPHead` of the model, as the heads' rates say.

    After each batch: the traces of the batch's activations and, where one is due, a unit that begins again, its
    moments in the optimizer too (Dohare et al., Nature 632, 2024). Adam goes on counting its steps for all units
    together; the head's own step counts them for each. Logs `units_reset`, of the epoch.

    Attributes:
        total: units reset so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the heads.

        Raises:
            UserError: there is none that `fit` trains, or the model does several steps between two calls.
        """
        self._heads = heads_in(self.model)
        if not self._heads:
            raise UserError("the model has no CBPHead without own_step: UnitResets has nothing to reset")
        if self.model.steps_per_execution != 1:
            raise UserError(
                f"steps_per_execution is {self.model.steps_per_execution}: compile with 1, for a unit may be reset "
                "after every step"
            )
        self._steps = [tf.function(head.end_step, autograph=False) for head in self._heads]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._before = self.total

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        for head, step in zip(self._heads, self._steps, strict=True):
            unit = int(step())
            if unit >= 0:
                _forget_moments(self.model.optimizer, head.state, unit)
                self.total += 1
                head.units_reset += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["units_reset"] = float(self.total - self._before)


def heads_in(model: keras.Model) -> list[CBPHead]:
    """Return every `CBPHead` in a model, at any depth, that `fit` trains."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, CBPHead) and not layer.own_step]


def _forget_moments(optimizer: Any, weights: Mapping[str, Any], unit: int) -> None:
    """Set what an optimizer keeps of the weights of one hidden unit to zero, averages of weights to the new ones."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
    for name, place in (("w1", (slice(None), unit)), ("b1", unit), ("w2", unit)):
        weight = weights[name]
        stem = weight.path.replace("/", "_") + "_"  # Keras names the slots so: OPTIMIZER/PATH_OF_WEIGHT_momentum
        for slot in optimizer.variables:
            if slot.path.rpartition("/")[2].startswith(stem) and slot.shape == weight.shape:
                values = np.array(slot)
                values[place] = np.array(weight)[place] if slot.path.endswith("_average") else 0.0
                slot.assign(values)
