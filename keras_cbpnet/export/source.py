"""What a conversion starts from: a finished run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from firmware_host.shared.names import restored_names
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data import Task, make_stream
from keras_cbpnet.data.record import open_data_of_run
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class Source(NamedTuple):
    """A finished run.

    Args:
        config: its configuration.
        model: trained.
        names: of the classes known, in slot order.
        statistics: what statistics.npz of a bundle holds.
        tasks: that the host trained.
    """

    config: TrainConfig
    model: PromptedClassifier
    names: list[str]
    statistics: dict[str, NDArray[np.float64]]
    tasks: list[Task]


def load_source(run: Path, config: TrainConfig, progress: Callable[[str], None] = lambda line: None) -> Source:
    """Return the run in the folder `run`.

    Raises:
        UserError: one of its files is damaged, or its data are, or they are not those that it was trained on.
    """
    file = run / "metrics.json"
    try:
        names = list(restored_names([str(name) for name in json.loads(file.read_text(encoding="utf-8"))["classes"]]))
        file = run / "statistics.npz"
        with np.load(file) as arrays:
            statistics = {"scatter": arrays["scatter"]}
        file = run / "model.keras"
        model = keras.models.load_model(file)
    except Exception as error:  # json, zipfile, h5py and Keras raise many kinds for one cause
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} is missing or damaged ({reason[:120]}); train again into another folder") from error
    data = open_data_of_run(run, config.dataset, model.backbone.config.image_size, config.seed, progress)
    stream = make_stream(config.stream, data, config.tasks, config.seed, config.ways, config.shots)
    tasks = stream[: len(stream) - config.device_tasks]
    found = list(dict.fromkeys(name for task in tasks for name in task.class_names))
    if found != names:  # of a run that does not say which data it was trained on
        raise UserError(
            f"{config.dataset} is not what {run} was trained on: its classes were {', '.join(names[:8])}, they are "
            f"{', '.join(found[:8])}; put the data back as they were, or train again into another folder"
        )
    return Source(config, model, names, statistics, tasks)
