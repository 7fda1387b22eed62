"""Streams: the sequence of tasks a data set is met in."""

# N images, H height, W width

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.errors import UserError

__all__ = ["Task", "class_incremental"]


@dataclass(frozen=True)
class Task:
    """One task of a stream; labels are slots, the head's own class numbers.

    Attributes:
        index: Position in the stream, from 0.
        slots: The slots of this task's classes.
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
        return self.data.x_train[self.train_rows]

    @property
    def x_test(self) -> NDArray[np.uint8]:
        """The test images, as `x_train`."""
        return self.data.x_test[self.test_rows]


def class_incremental(dataset: Dataset, tasks: int, seed: int) -> list[Task]:
    """Splits the classes into `tasks` disjoint, equal groups met one after another.

    Slot i belongs to the i-th class of the stream, so that slots fill up from 0 as tasks arrive.

    Args:
        dataset: All classes.
        tasks: Number of tasks; must divide the number of classes.
        seed: Seed of the class order.

    Returns:
        The tasks in their order; images keep the data set's order within a task.

    Raises:
        UserError: `tasks` does not divide the number of classes; the text lists the numbers that do.
    """
    classes = len(dataset.class_names)
    if tasks < 1 or classes % tasks:
        divisors = [str(n) for n in range(1, classes + 1) if classes % n == 0]
        raise UserError(
            f"{classes} classes cannot be split into {tasks} equal tasks; possible numbers: {', '.join(divisors)}"
        )
    order = np.random.default_rng(seed).permutation(classes)
    slot_of_class = np.empty(classes, np.int32)
    slot_of_class[order] = np.arange(classes, dtype=np.int32)
    train_slot = slot_of_class[dataset.y_train]
    test_slot = slot_of_class[dataset.y_test]

    stream = []
    size = classes // tasks
    for index in range(tasks):
        slots = range(index * size, (index + 1) * size)
        train, test = (np.flatnonzero((slot >= slots.start) & (slot < slots.stop)) for slot in (train_slot, test_slot))
        stream.append(
            Task(
                index=index,
                slots=tuple(slots),
                class_names=tuple(dataset.class_names[order[slot]] for slot in slots),
                data=dataset,
                train_rows=train,
                y_train=train_slot[train],
                test_rows=test,
                y_test=test_slot[test],
            )
        )
    return stream
