"""Data parallelism by Keras' distribution API: every device has all weights and learns from a share of each batch.

The devices are those of this process and, where the variables of `keras.distribution.initialize` are set, those of
other processes, on this machine or on others. All weights are the same everywhere after every step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.errors import UserError

PREFIX = "KERAS_DISTRIBUTION_"  # of the variables, see keras.distribution.initialize
NUMBER, INDEX = f"{PREFIX}NUM_PROCESSES", f"{PREFIX}PROCESS_ID"

# Dimensions: B images of a batch.


class Workers:
    """The devices that share a batch.

    Args:
        batch: B.
        parts: of a batch, learned from one after the other.

    Attributes:
        processes: their number.
        index: of this process; process 0 writes checkpoints, log and weights.

    Raises:
        UserError: the backend cannot do it, the other processes are not reached, or B is no multiple of the devices.
    """

    def __init__(self, batch: int, parts: int = 1) -> None:
        self.processes, self.index = 1, 0
        self._distribution: Any = None
        if keras.backend.backend() != "jax":
            if given := [name for name in os.environ if name.startswith(PREFIX)]:
                raise UserError(f"{given[0]} needs KERAS_BACKEND=jax, not {keras.backend.backend()}; unset one of them")
            return
        if os.environ.get(NUMBER):
            try:
                keras.distribution.initialize()
            except (RuntimeError, ValueError) as error:
                said = " ".join(str(error).split())[:160]
                raise UserError(
                    f"the {os.environ[NUMBER]} processes of {NUMBER} did not meet ({said}); start all of them, each "
                    f"with its own {INDEX} from 0 on and the same {PREFIX}JOB_ADDRESSES"
                ) from None
        devices = keras.distribution.list_devices()
        if len(devices) == 1:
            return
        if batch // parts % len(devices):
            each = f"{len(devices)} devices" + (f" times --accumulate {parts}" if parts > 1 else "")
            raise UserError(f"--batch must be a multiple of the {each}, got {batch}")
        self._distribution = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        self.processes, self.index = self._distribution.num_processes, self._distribution.data_shard_id

    @property
    def shared(self) -> bool:
        """Whether there is more than one device."""
        return self._distribution is not None

    @contextlib.contextmanager
    def sharing(self) -> Iterator[None]:
        """Let variables made in the block be on every device, and what they learn from be shared among all."""
        with self._distribution.scope() if self.shared else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Compute the block, within one of `sharing`, on one device of this process."""
        if self.shared:
            keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            if self.shared:
                keras.distribution.set_distribution(self._distribution)

    def part(self, batches: keras.utils.PyDataset) -> keras.utils.PyDataset:
        """Return what this process reads of every batch of `batches`."""
        return Part(batches, self.index, self.processes) if self.processes > 1 else batches

    def backup(self, work: Path, name: str) -> list[keras.callbacks.Callback]:
        """Return what goes on from the checkpoint `name` in the folder `work`, and what writes it.

        Process 0 writes it. The others write one too, which nobody reads: saving makes all processes wait for each
        other.
        """
        if not self.index:
            return [keras.callbacks.BackupAndRestore(work / name, delete_checkpoint=False)]
        unread = work / f"worker-{self.index}" / name
        shutil.rmtree(unread, ignore_errors=True)
        return [Restore(work / name), keras.callbacks.BackupAndRestore(unread, delete_checkpoint=False)]


class Part(keras.utils.PyDataset):
    """The share of one process of every batch.

    Args:
        batches: of (images [B, ...], targets by name, each [B, ...]); their order and contents are the same everywhere.
        index: of the process.
        processes: their number, a divisor of B.
    """

    def __init__(self, batches: keras.utils.PyDataset, index: int, processes: int) -> None:
        super().__init__()
        self.batches, self.index, self.processes = batches, index, processes

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        images, targets = self.batches[index]
        return self._share(images), {name: self._share(target) for name, target in targets.items()}

    def _share(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(np.split(array, self.processes)[self.index])

    def on_epoch_end(self) -> None:
        self.batches.on_epoch_end()


class Restore(keras.callbacks.BackupAndRestore):
    """Goes on from a checkpoint that another process writes.

    Args:
        folder: of the checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, delete_checkpoint=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write nothing."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write nothing."""
