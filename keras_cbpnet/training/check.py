"""What is wrong with a run: its configuration, found before any work and without Keras, its images and its weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data.sources import find_source
from keras_cbpnet.errors import UserError
from keras_cbpnet.keras_settings import check_installed
from keras_cbpnet.models.sizes import backbone_of
from keras_cbpnet.plasticity import parse_rule
from keras_cbpnet.presets import find_weights, get_preset
from keras_cbpnet.tables import METHODS, SELECTIONS, STREAMS
from keras_cbpnet.training.adaptation_settings import parse_adaptation

if TYPE_CHECKING:
    from keras_cbpnet.data import Dataset, Task
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier

__all__ = ["check", "check_finite", "check_images"]

LOOKED_AT = 64  # images that are compared

LEAST = {
    "epochs": 0,
    "head_epochs": 0,
    "views": 0,
    "expert_length": 1,
    "prompt_tasks": 0,
    "units": 1,
    "batch": 1,
    "slots": 0,
    "seed": 0,
    "maturity_threshold": 0,
}


def check(config: TrainConfig) -> Path | None:
    """Refuse an invalid configuration: its numbers, its names, then what its method does not allow; without Keras.

    Returns:
        The file of the backbone's weights, fetched where it is on the hub; None for those that are shipped.

    Raises:
        UserError: one line about the first thing that is wrong.
    """
    for name, least in {"tasks": 0 if config.stream == "domain" else 1, **LEAST}.items():
        if getattr(config, name) < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(config, name)}")
    if config.epochs + config.head_epochs == 0:
        raise UserError("--epochs and --head-epochs are both 0, so nothing would be trained")
    for name in ("learning_rate", "prompt_learning_rate"):
        if not 0 < getattr(config, name) < math.inf:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, got {getattr(config, name)}")
    if not 0 <= config.decay_rate < 1:
        raise UserError(f"--decay-rate must be from 0 to below 1, got {config.decay_rate}")
    backbone_of(config)
    find_source(config.dataset)
    if config.whiten not in ("none", "task"):
        find_source(config.whiten)
    STREAMS.check(config.stream)
    SELECTIONS.check(config.prompt_selection)
    METHODS.check(config.method)
    parse_rule(config.plasticity)
    parse_adaptation(config.adapt)
    METHODS.find(config.method)().check(config)
    check_installed("keras", "tensorflow")
    return find_weights(get_preset(config.preset), config.weights)  # may take a while, so it is the last


def check_images(data: Dataset) -> None:
    """Refuse images that are all the same: nothing can be learned from them, and no scale be taken.

    Raises:
        UserError: up to 64 training images, spread over all of them, do not differ in any pixel.
    """
    count = len(data.y_train)
    rows = np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(np.int64))
    images = data.images("train", rows)
    if len(rows) > 1 and (images == images[0]).all():
        raise UserError(
            f"the training images are all alike ({len(rows)} of {count} were compared); give images that show the "
            f"classes {', '.join(data.class_names[:3])}{', ...' if len(data.class_names) > 3 else ''}"
        )


def check_finite(model: PromptedClassifier, task: Task) -> None:
    """Refuse to go on with a model whose training on `task` left the finite numbers.

    Raises:
        UserError: a weight is NaN or infinite.
    """
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight)).all():
            raise UserError(
                f"the training diverged in task {task.index + 1}: {weight.path} is not finite; give a lower "
                "--learning-rate or --prompt-learning-rate, and another --output"
            )
