"""The class-incremental stream: new classes in every task."""

from __future__ import annotations

import numpy as np

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.streams.task import Task
from keras_cbpnet.errors import UserError

__all__ = ["class_incremental"]


def class_incremental(dataset: Dataset, tasks: int, seed: int, ways: int = 0, shots: int = 0) -> list[Task]:
    """Split the classes into `tasks` disjoint, equal groups met one after another.

    Slot i belongs to the i-th class of the stream, so that slots fill up from 0 as tasks arrive.

    Args:
        dataset: all classes.
        tasks: number of tasks; must divide the number of classes.
        seed: seed of the class order.
        ways: not used: `tasks` decides.
        shots: not used: all images are taken.

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
