"""What a training starts from, read and refused without Keras: its configuration, its folder, its weights, its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data import Dataset, Task, make_stream
from keras_cbpnet.data.duplicates import duplicates
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.importers.files import read_arrays
from keras_cbpnet.training.check import check, check_images
from keras_cbpnet.training.data import open_data, record_of_run
from keras_cbpnet.training.run import check_folder

__all__ = ["Inputs", "read_inputs"]


class Inputs(NamedTuple):
    """All that a run needs besides its model.

    Attributes:
        config: of the run, with the number of tasks where that was left to the data.
        data: what the tasks are taken from.
        other: the data set that whitens the features, where one is named.
        tasks: those that the host trains.
        classes: of the whole stream, those of the device too.
        record: of the data; see `record_of_run`.
    """

    config: TrainConfig
    data: Dataset
    other: Dataset | None
    tasks: list[Task]
    classes: int
    record: dict[str, Any]


def read_inputs(
    config: TrainConfig, output: Path, progress: Callable[[str], None] = lambda line: None, follows: bool = False
) -> Inputs:
    """Return what a run needs; refuse first what is wrong with its configuration, its folder and its data.

    Nothing is written, and no image is decoded before configuration and folder have been found usable.

    Args:
        config: of the run.
        output: its folder, which need not be there yet.
        progress: takes lines about the data.
        follows: whether another worker of the same training writes the folder.

    Raises:
        UserError: the configuration, the data or the folder are not usable.
    """
    weights = check(config)
    check_folder(output, config, follows)
    if config.weights and weights is not None:
        read_arrays(weights)  # whether it fits is known once the model is built
    data, other = open_data(config, output)
    stream = make_stream(config.stream, data, config.tasks, config.seed, config.ways, config.shots)
    if not 0 <= config.device_tasks < len(stream):
        raise UserError(f"--device-tasks must be from 0 to {len(stream) - 1}, got {config.device_tasks}")
    classes = 1 + max(slot for task in stream for slot in task.slots)
    if config.slots and config.slots < classes:
        raise UserError(f"--slots {config.slots} is too few for the {classes} classes of {config.dataset}")
    data.check(progress)
    check_images(data)
    for line in (data.describe(), *duplicates(data)):
        progress(line)
    config = dataclasses.replace(config, tasks=len(stream))
    tasks = stream[: len(stream) - config.device_tasks]
    return Inputs(config, data, other, tasks, classes, record_of_run(config, data, other))
