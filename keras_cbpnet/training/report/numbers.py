"""Numbers out of metrics.json and log.csv, whichever way they were written."""

# T tasks

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["average_so_far", "is_drifting", "number", "plasticity_curves"]


def number(value: Any) -> float:
    """Return the value as float; NaN for what is not a number, such as a missing or empty cell of the log."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def is_drifting(metrics: Mapping[str, Any]) -> bool:
    """Return whether these are the metrics of a drifting stream, `metrics.summarize_drifting`'s, not `summarize`'s."""
    return "learning_curve" in metrics


def average_so_far(metrics: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the mean accuracy over the tasks learned so far, mean_{j<=i} R[i][j], float64 [T], in 0..1."""
    matrix = np.array(metrics["accuracy_matrix"], dtype=np.float64)  # (T, T), NaN above the diagonal
    return np.array([matrix[i, : i + 1].mean() for i in range(len(matrix))])


def plasticity_curves(metrics: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Return the diagnostics in `metrics["plasticity"]` by name, each float64 [T], NaN where not measured.

    A list with one dictionary per task and a dictionary of lists with one number per task are both understood. What has
    no finite number at all is left out.
    """
    values = metrics.get("plasticity") or {}
    if isinstance(values, Mapping):
        columns = {name: column for name, column in values.items() if isinstance(column, (list, tuple))}
    else:
        names = dict.fromkeys(name for row in values for name in row)
        columns = {name: [row.get(name) for row in values] for name in names}
    curves = {str(name): np.array([number(value) for value in column]) for name, column in columns.items()}
    return {name: curve for name, curve in curves.items() if np.isfinite(curve).any()}
