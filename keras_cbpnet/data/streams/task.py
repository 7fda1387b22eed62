"""One task of a stream."""

# N images, H height, W width

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data.dataset import Dataset

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """One task of a stream; labels are slots, the head's own class numbers.

    Attributes:
        index: Position in the stream, from 0.
        slots: The slots of this task's classes; streams that re-use labels have the same slots in every task.
        class_names: Their names, in the order of `slots`.
        data: What its images are taken from.
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

    @property
    def x_train(self) -> NDArray[np.uint8]:
        """The training images, uint8 [N, H, W, 3], RGB 0..255; a copy."""
        return self.data.images("train", self.train_rows)

    @property
    def x_test(self) -> NDArray[np.uint8]:
        """The test images, as `x_train`."""
        return self.data.images("test", self.test_rows)
