"""The run folder: configuration, checkpoints after every task, results."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_host.bundle import ClassStatistics
from firmware_host.shared.files import write_atomically
from firmware_host.shared.litter import is_litter
from keras_cbpnet import __version__
from keras_cbpnet.config import TrainConfig, read_config
from keras_cbpnet.data.record import RECORD
from keras_cbpnet.errors import UserError
from keras_cbpnet.locks import LOCK, give_back, in_use, take_lock

if TYPE_CHECKING:  # folders are looked at without Keras
    import keras

PAUSE = 10.0  # seconds between two checkpoints, at least
IN_USE = "{} is in use by another training; wait until that has ended, or choose another --output"


def check_folder(path: Path, config: TrainConfig, follows: bool = False) -> None:
    """Refuse a folder that a run of `config` can neither begin nor go on in; nothing is written.

    Where this process `follows`, another worker of the same training may use it.

    Raises:
        UserError: it is in use, or it holds a finished run, a run of another configuration, or something else.
    """
    if in_use(path) and not follows:
        raise UserError(IN_USE.format(path))
    if (path / "config.json").exists():
        if not is_run_of(path, config):
            raise UserError(f"{path} holds a run of another configuration; choose another --output or remove it")
        if (path / "metrics.json").exists():
            raise UserError(f"{path} holds a finished run; choose another --output or remove it")
    elif path.exists() and contents(path, ("config.json.part", LOCK)):
        raise UserError(f"{path} exists and is not a run folder; choose another --output")


def contents(folder: Path, known: Sequence[str] = ()) -> list[Path]:
    """Return what lies in `folder`, without the names `known` and what other programs leave, such as .DS_Store."""
    left = (entry for entry in folder.iterdir() if entry.name not in known)
    return [entry for entry in left if not is_litter(entry.name, entry.is_dir())]


def is_run_of(path: Path, config: TrainConfig) -> bool:
    """Return whether the run in the folder `path` has the configuration `config`; 0 tasks stand for any number."""
    stored = read_config(path)
    return config == (stored if config.tasks else dataclasses.replace(stored, tasks=0))


class Run:
    """A run folder that a killed training resumes from and a finished one is never overwritten in.

    A context: until it ends, no other training can use the folder.

    Args:
        path: the folder; made if missing.
        config: of this training.

    Attributes:
        writes: whether this process writes the folder.

    Raises:
        UserError: as `check_folder`.
    """

    writes = True

    def __init__(self, path: Path, config: TrainConfig) -> None:
        check_folder(path, config)
        self.path = path
        self._saved = -math.inf
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            lock = take_lock(path)
        if lock is None:
            raise UserError(IN_USE.format(path))
        self._lock = lock
        if (path / "metrics.json").exists():  # another training finished it since it was looked at
            give_back(path, lock)
            check_folder(path, config)
        if not (path / "config.json").exists():
            with writing(path):
                write_json(path / "config.json", {"version": __version__, **config.to_dict()})

    def keep(self, record: Mapping[str, Any], say: Callable[[str], None] = lambda line: None) -> None:
        """Write what tells the run's data from any others, unless an earlier training did.

        Args:
            record: of the data.
            say: takes a line of warning about checkpoints that nothing ties to these data.
        """
        if not (self.path / RECORD).exists():
            if self._checkpoints():
                say(f"warning: {self.path} does not say which images it was trained on so far; are these the same?")
            with writing(self.path):
                write_json(self.path / RECORD, record)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        give_back(self.path, self._lock)

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
        with writing(self.path):
            try:
                temporary.mkdir()
                # Not save_weights: HDF5 does not survive a full disk; here it is written in memory first.
                model.save(temporary / "model.keras")
                _write_arrays(temporary / "statistics.npz", statistics)
                write_json(temporary / "progress.json", progress)
                temporary.rename(self.path / f"checkpoint-{progress['tasks']:04d}")
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        self._saved = time.monotonic()
        for folder in older:
            shutil.rmtree(folder)

    def restore(self, model: keras.Model) -> tuple[ClassStatistics, dict[str, Any]] | None:
        """Load the newest checkpoint into `model`; return statistics and progress, or None where there is none.

        Raises:
            UserError: it is damaged.
        """
        folders = self._checkpoints()
        if not folders:
            return None
        try:
            model.load_weights(folders[-1] / "model.keras")
            with np.load(folders[-1] / "statistics.npz") as file:
                statistics = ClassStatistics(file["mean"], file["count"], file["scatter"])
            return statistics, dict(json.loads((folders[-1] / "progress.json").read_text(encoding="utf-8")))
        except Exception as error:  # json, zipfile, h5py and Keras raise many kinds for one cause
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise UserError(
                f"{folders[-1]} is damaged ({reason}); remove {self.path} and train from the start"
            ) from error

    def finish(
        self,
        model: keras.Model,
        statistics: ClassStatistics,
        metrics: Mapping[str, Any],
        history: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write model.keras, statistics.npz, log.csv and, last, metrics.json, which marks the run as finished."""
        table = io.StringIO(newline="")
        columns = list(dict.fromkeys(key for row in history for key in row)) or ["task", "part", "epoch"]
        writer = csv.DictWriter(table, fieldnames=columns)
        writer.writeheader()
        writer.writerows(history)
        with writing(self.path):
            part = self.path / "part.keras"  # Keras looks at the ending
            try:
                model.save(part)
                os.replace(part, self.path / "model.keras")
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            _write_arrays(self.path / "statistics.npz", statistics)
            _write(self.path / "log.csv", table.getvalue().encode())
            write_json(self.path / "metrics.json", metrics)
        for folder in self._checkpoints():
            shutil.rmtree(folder)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` as JSON, whole or not at all."""
    _write(path, (json.dumps(values, indent=1) + "\n").encode())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system has against writing into the run folder `path` into one line.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or path} cannot be written ({error.strerror or error}); free some space or make it "
            "writable, then give the same command again: what is in the folder so far is not lost"
        ) from error


def _write_arrays(path: Path, statistics: ClassStatistics) -> None:
    content = io.BytesIO()
    np.savez(content, **statistics.arrays())
    _write(path, content.getvalue())


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, content, path.with_name(path.name + ".part"))
