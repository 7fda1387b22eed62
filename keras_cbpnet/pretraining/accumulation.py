"""Gradient accumulation: a step whose batch does not fit into memory is made of parts, whose gradients are averaged.

Keras' optimizers add the gradients up (`gradient_accumulation_steps`). Two things of theirs count parts there where a
pretraining counts steps, the learning rate and the moving average of the weights; here they count steps, so that N
parts give the weights of the whole batch up to rounding.

Dimensions: B images of a batch, N parts of it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

__all__ = ["AccumulatingAdamW", "EachStep", "Parts"]

Batch = tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]


class Parts(keras.utils.PyDataset):
    """Every batch of another data set in parts, one after the other.

    Args:
        batches: of (images [B, ...], targets by name, each [B, ...]).
        parts: N, a divisor of B.
    """

    def __init__(self, batches: keras.utils.PyDataset, parts: int) -> None:
        super().__init__()
        self.batches, self.parts = batches, parts
        self._last: tuple[int, Batch] | None = None  # its number and the batch itself, made once

    def __len__(self) -> int:
        return len(self.batches) * self.parts

    def __getitem__(self, index: int) -> Batch:
        number, part = divmod(index, self.parts)
        if self._last is None or part == 0 or self._last[0] != number:
            self._last = number, self.batches[number]
        images, targets = self._last[1]
        size = len(images) // self.parts
        rows = slice(part * size, (part + 1) * size)
        return images[rows], {name: target[rows] for name, target in targets.items()}

    def on_epoch_end(self) -> None:
        self._last = None
        self.batches.on_epoch_end()


@keras.saving.register_keras_serializable("keras_cbpnet")
class EachStep(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of steps for an optimizer that counts parts.

    Args:
        schedule: learning rate by the number of the step.
        parts: N.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, parts: int) -> None:
        super().__init__()
        self.schedule, self.parts = schedule, parts

    def __call__(self, step: Any) -> Any:
        return self.schedule(ops.floor_divide(step, self.parts))

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "parts": self.parts}


@keras.saving.register_keras_serializable("keras_cbpnet")
class AccumulatingAdamW(keras.optimizers.AdamW):
    """AdamW with `gradient_accumulation_steps` and `use_ema`, whose moving average takes in the weights once a step."""

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        parts, done = self.gradient_accumulation_steps, self._iterations + 1
        momentum = ops.where(self.iterations == 0, 0.0, self.ema_momentum)  # as Keras: the first step begins it
        momentum = ops.where(done % parts == 0, momentum, 1.0)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            if average is not None:
                m = ops.cast(momentum, variable.dtype)
                average.assign(m * average + (1 - m) * variable)
