"""One task of a stream, and its images."""

# N images, H height, W width

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.images import Rows

__all__ = ["Task", "TaskImages"]


@dataclass(frozen=True)
class Task:
    """One task of a stream; labels are slots, the head's own class numbers.

    Attributes:
        index: position in the stream, from 0.
        slots: the slots of this task's classes; streams that re-use labels have the same slots in every task.
        class_names: their names, in the order of `slots`.
        data: what its images are taken from.
        train_rows: int64 [N], its training images as rows of `data`.
        y_train: int32 [N], slots.
        test_rows: int64, as `train_rows`.
        y_test: int32, as `y_train`.
    """

    index: int
    slots: tuple[int, ...]
    class_names: tuple[str, ...]
    data: Dataset
    train_rows: NDArray[np.int64]
    y_train: NDArray[np.int32]
    test_rows: NDArray[np.int64]
    y_test: NDArray[np.int32]

    def images(self, part: str) -> TaskImages:
        """Return the images of `part`, `train` or `test`; none is decoded yet."""
        return TaskImages(self.data, part, self.train_rows if part == "train" else self.test_rows)

    @property
    def x_train(self) -> NDArray[np.uint8]:
        """The training images, uint8 [N, H, W, 3], RGB 0..255; a copy, all in memory."""
        return self.images("train")[:]

    @property
    def x_test(self) -> NDArray[np.uint8]:
        """The test images, as `x_train`."""
        return self.images("test")[:]


@dataclass(frozen=True)
class TaskImages:
    """Images of a data set as a sequence that is indexed like an array, uint8 [N, H, W, 3], RGB 0..255.

    Attributes:
        data: what they are taken from.
        part: `train` or `test`.
        rows: int64 [N], of that part.
    """

    data: Dataset
    part: str
    rows: NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        return self.data.images(self.part, self.rows[rows])
