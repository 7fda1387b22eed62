"""CBPNet for TensorFlow Lite: prompted vision transformers with a head that goes on learning on the device.

What users of the library need has its name here; Keras and TensorFlow are imported when they are needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from firmware_host.shared.lazy import finder
from firmware_host.shared.version import __version__

if TYPE_CHECKING:
    from keras_cbpnet.api import Run, convert, load_run, train
    from keras_cbpnet.data.sources import load_dataset
    from keras_cbpnet.data.streams import Task, class_incremental, domain_incremental, drifting, make_stream
    from keras_cbpnet.layers.cbp_head import CBPHead
    from keras_cbpnet.metrics import dead_unit_share, effective_rank, over_seeds, summarize, summarize_drifting
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.training.callbacks.plasticity_metrics import PlasticityMetrics
    from keras_cbpnet.training.callbacks.unit_resets import UnitResets

__all__ = [
    "Backbone",
    "CBPHead",
    "PlasticityMetrics",
    "Run",
    "Task",
    "UnitResets",
    "__version__",
    "class_incremental",
    "convert",
    "dead_unit_share",
    "domain_incremental",
    "drifting",
    "effective_rank",
    "load_dataset",
    "load_run",
    "make_stream",
    "over_seeds",
    "summarize",
    "summarize_drifting",
    "train",
]

PLACES = {  # the module of each name; `train` and `convert` are modules that can be called
    "keras_cbpnet.api": ("Run", "load_run"),
    "keras_cbpnet.data.sources": ("load_dataset",),
    "keras_cbpnet.data.streams": ("Task", "class_incremental", "domain_incremental", "drifting", "make_stream"),
    "keras_cbpnet.layers.cbp_head": ("CBPHead",),
    "keras_cbpnet.metrics": ("dead_unit_share", "effective_rank", "over_seeds", "summarize", "summarize_drifting"),
    "keras_cbpnet.models.backbone": ("Backbone",),
    "keras_cbpnet.training.callbacks.plasticity_metrics": ("PlasticityMetrics",),
    "keras_cbpnet.training.callbacks.unit_resets": ("UnitResets",),
}


_find = finder(__name__, PLACES)


def __getattr__(name: str) -> Any:
    """Import what has a name here when it is asked for."""
    return importlib.import_module(f"{__name__}.{name}") if name in ("train", "convert") else _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
