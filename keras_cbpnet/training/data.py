"""The data of a run, and those that whiten its features: opened, held to what the run began with, recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data import Dataset, open_dataset
from keras_cbpnet.data.record import WHITENING, check_data, record_of
from keras_cbpnet.presets import get_preset

__all__ = ["open_data", "record_of_run"]


def open_data(config: TrainConfig, run: Path) -> tuple[Dataset, Dataset | None]:
    """Open the data of a run, and those that whiten its features, None where no data set is named for that.

    Args:
        config: of the run.
        run: its folder, which need not be there yet.

    Raises:
        UserError: as `open_dataset`; or they are not those that the run began with.
    """
    size = get_preset(config.preset).backbone.image_size
    data = open_dataset(config.dataset, size, config.seed)
    check_data(run, config.dataset, data)
    if config.whiten in ("none", "task"):
        return data, None
    other = open_dataset(config.whiten, size)
    check_data(run, config.whiten, other, whitening=True)
    return data, other


def record_of_run(config: TrainConfig, data: Dataset, other: Dataset | None) -> dict[str, Any]:
    """Return what tells the data of a run, and those that whiten its features, from any others."""
    record = record_of(config.dataset, data)
    if other is not None:
        record[WHITENING] = record_of(config.whiten, other)
    return record
