"""What is measured after each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.metrics import dead_unit_share, effective_rank
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

ROWS = 500  # at most, that the effective rank is taken of


def accuracies(
    model: PromptedClassifier, features: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.int32]]
) -> list[float]:
    """Return for each task the share of its features [N, D] that the head gives its labels [N], among all classes."""
    found = np.asarray(model.head(np.concatenate(features))).argmax(axis=1)
    parts = np.split(found, np.cumsum([len(each) for each in labels])[:-1])
    return [float(np.mean(part == each)) for part, each in zip(parts, labels, strict=True)]


def plasticity(
    model: PromptedClassifier, features: NDArray[np.float32], rows: Sequence[dict[str, Any]]
) -> dict[str, float]:
    """Return dead-unit share, effective rank (as a share of the units) and units replaced in a task.

    Args:
        model: after the task; a head without hidden units gives nothing.
        features: of the task's test images, [N, D].
        rows: of numbers, one per epoch of the task.
    """
    if not isinstance(model.head, CBPHead) or model.head.config.units == 1:
        return {}
    hidden = np.asarray(model.head.equations.hidden(model.head.values(), features[:ROWS]))
    return {
        "dead_unit_share": dead_unit_share(hidden),
        "effective_rank": effective_rank(hidden) / hidden.shape[1],
        "units_replaced": sum(row["replaced"] for row in rows),
    }
