"""Whitening transform of a backbone's features, from the images of the first task or from others.

A head's constants scale the features dimension by dimension. What the images of one class vary in may be other mixtures
of dimensions; the backbone's whitening layer then removes those, see `head.standardise.whitening`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_cbpnet.data import Dataset, Task
from keras_cbpnet.data.few import drawn
from keras_cbpnet.head.standardise import whitening
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.calibration import CALIBRATION, calibrate
from keras_cbpnet.models.prompted_classifier import PromptedClassifier
from keras_cbpnet.training.features.cache import FrozenFeatures
from keras_cbpnet.training.features.tasks import TaskFeatures

SHRINKAGE = 0.5  # of the covariance
SHRINKAGE_MANY = 0.2  # of other data, which says more
IMAGES = 10_000  # of other data, at most


def whiten_by_task(model: PromptedClassifier, task: Task, features: TaskFeatures, qat: bool) -> None:
    """Whiten by the first task, in place; helps where images are unlike those of the pretraining.

    Args:
        model: whose backbone has a whitening layer.
        task: the first, before it is learned.
        features: of its images.
        qat: whether the ranges of fake quantizers are to be taken again.
    """
    whole = model.query_blocks == model.backbone.config.depth  # then a query is the prompt-free features
    rows = features.query(task, "train") if whole else None
    if rows is None:
        rows = model.batched(model.backbone.features, task.images("train"))
    model.backbone.add_whitening(*whitening(rows, task.y_train, SHRINKAGE))
    if qat:
        calibrate(model, model.features, task.images("train")[:CALIBRATION])


def whiten_by_data(backbone: Backbone, data: Dataset, progress: Callable[[str], None]) -> None:
    """Whiten by the training images of a data set like that of the pretraining, in place, before anything is learned.

    Nothing of the stream is used, and many classes of many images say more of the covariance than a first task.

    Args:
        backbone: with a whitening layer, its fake quantizers off.
        data: of whose training images at most 10,000 are drawn, always the same; its domains do not matter.
        progress: called with a line for each tenth of the images; they are computed once and cached.
    """
    rows = drawn(data.y_train, IMAGES)
    few = data.with_training_rows(rows)
    frozen = FrozenFeatures(backbone, few, lambda line: progress(f"whitening, {line}"))
    features = frozen.rows("train", np.arange(len(rows)))
    backbone.add_whitening(*whitening(features, few.y_train, SHRINKAGE_MANY))
