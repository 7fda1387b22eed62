"""The domain-incremental stream: the same classes in new surroundings."""

from __future__ import annotations

import numpy as np

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.streams.task import Task
from keras_cbpnet.errors import UserError

__all__ = ["domain_incremental"]


def domain_incremental(dataset: Dataset, tasks: int, seed: int, ways: int = 0, shots: int = 0) -> list[Task]:
    """Make one task of every domain, each with all classes; slot i is the i-th class throughout.

    Where the data set has one test set for all domains (`domain_test` is None, as CORe50's NI protocol has it), every
    task has all test images: accuracy on any task is then the accuracy on that set.

    Args:
        dataset: a data set with domains.
        tasks: number of the data set's domains, or 0.
        seed: seed of the domains' order.
        ways: not used: a task has all classes.
        shots: not used: all images are taken.

    Returns:
        The tasks in their order; images keep the data set's order within a task.

    Raises:
        UserError: the data set has no domains, or another number of them.
    """
    if dataset.domain_train is None:
        raise UserError("the data set has no domains; for a domain stream give domains:PATH or core50")
    domains = len(dataset.domain_names)
    if tasks not in (0, domains):
        raise UserError(f"{tasks} tasks do not fit a data set of {domains} domains; give {domains}, or 0")
    everything = np.arange(len(dataset.y_test))
    stream = []
    for index, domain in enumerate(np.random.default_rng(seed).permutation(domains)):
        train = np.flatnonzero(dataset.domain_train == domain)
        test = everything if dataset.domain_test is None else np.flatnonzero(dataset.domain_test == domain)
        stream.append(
            Task(
                index=index,
                slots=tuple(range(len(dataset.class_names))),
                class_names=dataset.class_names,
                data=dataset,
                train_rows=train,
                y_train=dataset.y_train[train].astype(np.int32),
                test_rows=test,
                y_test=dataset.y_test[test].astype(np.int32),
            )
        )
    return stream
