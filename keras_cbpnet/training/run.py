"""The run folder: configuration, checkpoints after every task, results."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from firmware_host.bundle import ClassStatistics
from firmware_host.shared.files import write_atomically
from keras_cbpnet import __version__
from keras_cbpnet.config import TrainConfig, read_config
from keras_cbpnet.errors import UserError

PAUSE = 10.0  # seconds between two checkpoints, at least


def check_folder(path: Path, config: TrainConfig) -> None:
    """Refuse a folder that a run of `config` can neither begin nor go on in; nothing is written.

    Raises:
        UserError: it holds a finished run, a run of another configuration, or something else.
    """
    if (path / "config.json").exists():
        if not is_run_of(path, config):
            raise UserError(f"{path} holds a run of another configuration; choose another --output or remove it")
        if (path / "metrics.json").exists():
            raise UserError(f"{path} holds a finished run; choose another --output or remove it")
    elif path.exists() and any(entry.name != "config.json.part" for entry in path.iterdir()):
        raise UserError(f"{path} exists and is not a run folder; choose another --output")


def is_run_of(path: Path, config: TrainConfig) -> bool:
    """Return whether the run in the folder `path` has the configuration `config`; 0 tasks stand for any number."""
    stored = read_config(path)
    return config == (stored if config.tasks else dataclasses.replace(stored, tasks=0))


class Run:
    """A run folder that a killed training resumes from and a finished one is never overwritten in.

    Args:
        path: the folder; made if missing.
        config: of this training.

    Raises:
        UserError: as `check_folder`.
    """

    def __init__(self, path: Path, config: TrainConfig) -> None:
        check_folder(path, config)
        self.path = path
        self._saved = -math.inf
        if not (path / "config.json").exists():
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "config.json", {"version": __version__, **config.to_dict()})

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob("checkpoint-[0-9]*"), key=lambda folder: int(folder.name.partition("-")[2]))

    def is_due(self) -> bool:
        """Return whether the last checkpoint is old enough for another one."""
        return time.monotonic() - self._saved >= PAUSE

    def save(self, model: keras.Model, statistics: ClassStatistics, progress: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, and drop the older ones."""
        older = self._checkpoints()
        temporary = self.path / "checkpoint.part"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        model.save_weights(temporary / "model.weights.h5")
        np.savez(temporary / "statistics.npz", **statistics.arrays())
        write_json(temporary / "progress.json", progress)
        temporary.rename(self.path / f"checkpoint-{progress['tasks']:04d}")
        self._saved = time.monotonic()
        for folder in older:
            shutil.rmtree(folder)

    def restore(self, model: keras.Model) -> tuple[ClassStatistics, dict[str, Any]] | None:
        """Load the newest checkpoint into `model`; return statistics and progress, or None where there is none."""
        folders = self._checkpoints()
        if not folders:
            return None
        model.load_weights(folders[-1] / "model.weights.h5")
        with np.load(folders[-1] / "statistics.npz") as file:
            statistics = ClassStatistics(file["mean"], file["count"], file["scatter"])
        return statistics, json.loads((folders[-1] / "progress.json").read_text())

    def finish(
        self,
        model: keras.Model,
        statistics: ClassStatistics,
        metrics: Mapping[str, Any],
        history: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write model.keras, statistics.npz, log.csv and, last, metrics.json, which marks the run as finished."""
        model.save(self.path / "model.keras")
        np.savez(self.path / "statistics.npz", **statistics.arrays())
        with (self.path / "log.csv").open("w", newline="") as file:
            columns = list(dict.fromkeys(key for row in history for key in row)) or ["task", "part", "epoch"]
            writer = csv.DictWriter(file, fieldnames=columns)
            writer.writeheader()
            writer.writerows(history)
        write_json(self.path / "metrics.json", metrics)
        for folder in self._checkpoints():
            shutil.rmtree(folder)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` as JSON, whole or not at all."""
    content = json.dumps(values, indent=1) + "\n"
    write_atomically(path, content.encode(), path.with_name(path.name + ".part"))
