"""Room on the disk for a checkpoint, asked for before it is written: HDF5 ends the process where the disk is full."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras

from keras_cbpnet.errors import UserError

ARRAYS = 4  # of the weights' size: the weights, their average and two moments of the optimizer
TWICE = 2  # the new checkpoint lies beside the old one


class Room(keras.callbacks.Callback):
    """Ends a training with one line where its next checkpoint would not fit; the last one stays. Before the backup.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare what is free with what is needed.

        Raises:
            UserError: it is too little.
        """
        need = TWICE * ARRAYS * 4 * self.model.count_params()
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise UserError(
                f"{self.folder} has {free / 1e6:.0f} MB free, a checkpoint needs {need / 1e6:.0f}; free some space, "
                "then give the same command again: it goes on from the last checkpoint"
            )
