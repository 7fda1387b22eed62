"""What a conversion starts from: a finished run, its files read without Keras and then its model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_host.shared.names import restored_names
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data import Task, make_stream
from keras_cbpnet.data.record import open_data_of_run
from keras_cbpnet.errors import UserError

if TYPE_CHECKING:  # files are read without Keras
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier

__all__ = ["RunFiles", "Source", "load_source", "read_run"]


class RunFiles(NamedTuple):
    """A finished run without its model.

    Args:
        folder: the run folder.
        config: its configuration.
        names: of the classes known, in slot order.
        statistics: what statistics.npz of a bundle holds.
        tasks: that the host trained.
    """

    folder: Path
    config: TrainConfig
    names: list[str]
    statistics: dict[str, NDArray[np.float64]]
    tasks: list[Task]

    @property
    def model_file(self) -> Path:
        """Where its model is."""
        return self.folder / "model.keras"


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


def read_run(run: Path, config: TrainConfig, progress: Callable[[str], None] = lambda line: None) -> RunFiles:
    """Return the run in the folder `run`, all but its model, whose file is looked into; nothing imports Keras.

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
        with zipfile.ZipFile(file) as archive:
            described = json.loads(archive.read("config.json"))
        image_size = int(described["config"]["backbone"]["image_size"])
    except Exception as error:  # json and zipfile raise many kinds for one cause
        raise _damaged(file, error) from error
    data = open_data_of_run(run, config.dataset, image_size, config.seed, progress)
    stream = make_stream(config.stream, data, config.tasks, config.seed, config.ways, config.shots)
    tasks = stream[: len(stream) - config.device_tasks]
    found = list(dict.fromkeys(name for task in tasks for name in task.class_names))
    if found != names:  # of a run that does not say which data it was trained on
        raise UserError(
            f"{config.dataset} is not what {run} was trained on: its classes were {', '.join(names[:8])}, they are "
            f"{', '.join(found[:8])}; put the data back as they were, or train again into another folder"
        )
    return RunFiles(run, config, names, statistics, tasks)


def load_source(files: RunFiles) -> Source:
    """Return a run with its model.

    Raises:
        UserError: the model is damaged.
    """
    import keras

    import keras_cbpnet.models.prompted_classifier  # noqa: F401 (registered with Keras)

    try:
        model = keras.models.load_model(files.model_file)
    except Exception as error:  # zipfile, h5py and Keras raise many kinds for one cause
        raise _damaged(files.model_file, error) from error
    return Source(files.config, model, files.names, files.statistics, files.tasks)


def _damaged(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{file} is missing or damaged ({reason[:120]}); train again into another folder")
