"""Training batches of one task, with replayed rows for the head."""

# Dimensions: N images, B rows of the head's step, D feature size.

from __future__ import annotations

from collections.abc import Iterator
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
        x: dict[str, np.ndarray] = {"images": self.task.data.x_train[self.task.train_rows[rows]].astype(np.float32)}
        if self.statistics is not None:
            x["replay_feature"], x["replay_label"] = self.statistics.sample(self.rng, self.rows // 2)
        return x, self.task.y_train[rows]


class FeatureBatches:
    """Shuffled (features [B, D], labels int32 [B]) batches for the head alone, half of them replayed; -1 fills them up.

    Args:
        features: float32 [N, D].
        labels: int32 [N], slots.
        rows: B.
        statistics: what half of each batch is drawn from, or None for no replay.
        rng: of order and replay.
    """

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        rows: int,
        statistics: ClassStatistics | None,
        rng: np.random.Generator,
    ) -> None:
        self.features, self.labels, self.rows, self.statistics, self.rng = features, labels, rows, statistics, rng

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        real = self.rows - self.rows // 2 if self.statistics is not None else self.rows
        order = self.rng.permutation(len(self.labels))
        for start in range(0, len(order), real):
            chosen = order[start : start + real]
            feature, label = self.features[chosen], self.labels[chosen]
            if self.statistics is not None:
                replayed, slots = self.statistics.sample(self.rng, self.rows // 2)
                feature, label = np.concatenate([feature, replayed]), np.concatenate([label, slots])
            empty = self.rows - len(label)
            yield np.pad(feature, ((0, empty), (0, 0))), np.pad(label, (0, empty), constant_values=-1)
