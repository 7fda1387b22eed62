"""The drifting stream: hundreds of small tasks that re-use the same labels, to measure the loss of plasticity."""

from __future__ import annotations

import numpy as np

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.streams.task import Task
from keras_cbpnet.errors import UserError

__all__ = ["drifting"]


def drifting(dataset: Dataset, tasks: int, seed: int, ways: int = 10, shots: int = 50) -> list[Task]:
    """Draw tasks of a few classes with replacement; every task labels its classes from 0 to `ways` - 1.

    The head is not reset between tasks, so that what a label means drifts (the setting of Dohare et al., Nature 2024,
    with `ways` classes in place of their two). Task t depends on `seed` and t alone: a longer stream begins with the
    shorter one.

    Args:
        dataset: all classes.
        tasks: number of tasks.
        seed: seed of the classes and images drawn.
        ways: classes in a task, all different; the same class may come again in a later task.
        shots: training images of each class, all different, drawn again in every task.

    Returns:
        The tasks in their order; images class by class. Test images are all those of the task's classes.

    Raises:
        UserError: a number is not positive, `ways` is more than the classes, or a class has fewer than `shots`
            training images.
    """
    for name, value in (("tasks", tasks), ("ways", ways), ("shots", shots)):
        if value < 1:
            raise UserError(f"{name} {value} is not positive; a drifting stream needs at least 1")
    classes = len(dataset.class_names)
    if ways > classes:
        raise UserError(f"{ways} ways are more than the {classes} classes of the data set; lower the ways")
    train = [np.flatnonzero(dataset.y_train == label) for label in range(classes)]
    test = [np.flatnonzero(dataset.y_test == label) for label in range(classes)]
    for name, rows in zip(dataset.class_names, train):
        if len(rows) < shots:
            raise UserError(
                f"{shots} shots are more than the {len(rows)} training images of class '{name}'; lower the shots"
            )

    stream = []
    for index in range(tasks):
        rng = np.random.default_rng([seed, index])
        drawn = rng.choice(classes, ways, replace=False)
        stream.append(
            Task(
                index=index,
                slots=tuple(range(ways)),
                class_names=tuple(dataset.class_names[label] for label in drawn),
                data=dataset,
                train_rows=np.concatenate([rng.choice(train[label], shots, replace=False) for label in drawn]),
                y_train=np.repeat(np.arange(ways, dtype=np.int32), shots),
                test_rows=np.concatenate([test[label] for label in drawn]),
                y_test=np.repeat(np.arange(ways, dtype=np.int32), [len(test[label]) for label in drawn]),
            )
        )
    return stream
