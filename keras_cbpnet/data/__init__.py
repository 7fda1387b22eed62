"""Image data: sources (a data set by name), streams (tasks made of it) and preprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_host.shared.lazy import finder

if TYPE_CHECKING:
    from keras_cbpnet.data.dataset import Dataset
    from keras_cbpnet.data.preprocessing import resize_images
    from keras_cbpnet.data.sources import load_dataset, open_dataset
    from keras_cbpnet.data.streams import Task, class_incremental, domain_incremental, drifting, make_stream

__all__ = [
    "Dataset",
    "Task",
    "class_incremental",
    "domain_incremental",
    "drifting",
    "load_dataset",
    "make_stream",
    "open_dataset",
    "resize_images",
]

__getattr__ = finder(
    __name__,
    {
        "keras_cbpnet.data.dataset": ("Dataset",),
        "keras_cbpnet.data.preprocessing": ("resize_images",),
        "keras_cbpnet.data.sources": ("load_dataset", "open_dataset"),
        "keras_cbpnet.data.streams": (
            "Task",
            "class_incremental",
            "domain_incremental",
            "drifting",
            "make_stream",
        ),
    },
)
