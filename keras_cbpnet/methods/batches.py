"""Training batches of one task, with replayed rows for the head."""

# Dimensions: N images, S steps, B rows of the head's step, D feature size.

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
        query: `CBPNet.query` of the task's training images, float32 [N, D], where it is known.
    """

    def __init__(self, task: Task, rows: int, seed: tuple[int, ...], query: np.ndarray | None = None) -> None:
        super().__init__()
        self.task = task
        self.rows = rows
        self.query = query
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
        x: dict[str, np.ndarray] = {
            "images": self.task.data.images("train", self.task.train_rows[rows]).astype(np.float32)
        }
        if self.query is not None:
            x["query"] = self.query[rows]
        if self.statistics is not None:
            x["replay_feature"], x["replay_label"] = self.statistics.sample(self.rng, self.rows // 2)
        return x, self.task.y_train[rows]


class FeatureBatches:
    """Epochs of shuffled batches for the head alone, half of each replayed; label -1 fills the last one up.

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

    def epoch(self) -> tuple[np.ndarray, np.ndarray]:
        """Return features float32 [S, B, D] and labels int32 [S, B] of one pass over all images."""
        replayed = self.rows // 2 if self.statistics is not None else 0
        real = self.rows - replayed
        steps = -(-len(self.labels) // real)
        order = np.full(steps * real, -1)
        order[: len(self.labels)] = self.rng.permutation(len(self.labels))
        empty = order < 0
        feature = np.where(empty[:, None], 0, self.features[order]).reshape(steps, real, -1)
        label = np.where(empty, -1, self.labels[order]).reshape(steps, real).astype(np.int32)
        if self.statistics is not None:
            drawn = [self.statistics.sample(self.rng, replayed) for _ in range(steps)]
            feature = np.concatenate([feature, np.stack([rows for rows, _ in drawn])], axis=1)
            label = np.concatenate([label, np.stack([slots for _, slots in drawn])], axis=1)
        return feature.astype(np.float32), label
