"""Training batches of one task, with replayed rows for the head."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.data import Task


class TaskBatches(keras.utils.PyDataset):
    """Shuffled (images, labels) batches of a task; the order depends on the seed alone.

    Args:
        task: its training images.
        rows: rows of the head's step; with replay, half of them are drawn from `statistics`.
        seed: of order and replay.
    """

    def __init__(self, task: Task, rows: int, seed: tuple[int, ...]) -> None:
        super().__init__()
        self.task = task
        self.rows = rows
        self.rng = np.random.default_rng(seed)
        self.statistics: ClassStatistics | None = None
        self.order = self.rng.permutation(len(task.y_train))

    @property
    def real(self) -> int:
        """Images of a batch."""
        return self.rows - self.rows // 2 if self.statistics is not None else self.rows

    def on_epoch_end(self) -> None:
        self.order = self.rng.permutation(len(self.task.y_train))

    def __len__(self) -> int:
        return -(-len(self.order) // self.real)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        # The last batch is filled up from the first, so that every step has the same shape.
        rows = np.take(self.order, range(index * self.real, (index + 1) * self.real), mode="wrap")
        x: dict[str, np.ndarray] = {"images": self.task.x_train[rows].astype(np.float32)}
        if self.statistics is not None:
            x["replay_feature"], x["replay_label"] = self.statistics.sample(self.rng, self.rows // 2)
        return x, self.task.y_train[rows]
