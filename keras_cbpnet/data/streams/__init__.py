"""Streams: the sequence of tasks a data set is met in."""

from __future__ import annotations

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.streams.class_incremental import class_incremental
from keras_cbpnet.data.streams.domain_incremental import domain_incremental
from keras_cbpnet.data.streams.drifting import drifting
from keras_cbpnet.data.streams.task import Task
from keras_cbpnet.tables import STREAMS

__all__ = ["Task", "class_incremental", "domain_incremental", "drifting", "make_stream"]


def make_stream(kind: str, dataset: Dataset, tasks: int, seed: int, ways: int = 10, shots: int = 50) -> list[Task]:
    """Make a stream by name.

    Args:
        kind: `class` (new classes), `drifting` (labels re-used) or `domain` (new surroundings).
        dataset: what its images are taken from.
        tasks: number of tasks; for `domain` the number of domains, or 0.
        seed: seed of every draw.
        ways: classes in a task, of `drifting` alone.
        shots: training images of a class in a task, of `drifting` alone.

    Returns:
        The tasks in their order.

    Raises:
        UserError: unknown name, or the data set does not allow this stream.
    """
    stream: list[Task] = STREAMS.find(kind)(dataset, tasks, seed, ways, shots)
    return stream
