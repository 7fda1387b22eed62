"""From the accuracies on a stream to the metrics of continual learning; diagnostics of plasticity. NumPy only."""

# T tasks, N rows (images), U units

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FIRST", "LAST", "dead_unit_share", "effective_rank", "over_seeds", "summarize", "summarize_drifting"]

FIRST, LAST = 20, 100  # tasks at the two ends of a drifting stream that its summary averages over


def summarize(matrix: ArrayLike | Sequence[Sequence[Optional[float]]]) -> dict[str, Any]:
    """Compute the metrics of a task stream from `R[i][j]`, the accuracy on task j after training task i.

    Args:
        matrix: R, [T, T], accuracies in 0..1 on and below the diagonal; what stands above it is ignored (None, NaN).

    Returns:
        A dictionary ready for JSON, accuracies in 0..1:
            accuracy_matrix: R with None above the diagonal.
            average_accuracy: `mean_j R[T-1][j]`.
            average_incremental_accuracy: `mean_i mean_{j<=i} R[i][j]`.
            forgetting: `mean_{j<T-1} (max_i R[i][j] - R[T-1][j])`; 0 for a single task.
            backward_transfer: `mean_{j<T-1} (R[T-1][j] - R[j][j])`; 0 for a single task.
            learning_accuracy: `mean_j R[j][j]`.
        Forgetting and backward transfer after Chaudhry et al. (2018) and Lopez-Paz & Ranzato (2017), with the best
        accuracy taken over all moments, the last one included.

    Raises:
        ValueError: the matrix is not square, is empty, or has an entry outside 0..1 (or none) where one is needed.
    """
    r = np.array(matrix, dtype=np.float64)  # None becomes NaN
    if r.ndim != 2 or r.shape[0] != r.shape[1] or not len(r):
        raise ValueError(f"accuracy matrix has shape {r.shape}; it must be [tasks, tasks] with at least one task")
    tasks = len(r)
    known = np.tri(tasks, dtype=bool)
    if not np.all((r[known] >= 0) & (r[known] <= 1)):  # NaN fails both comparisons
        i, j = np.argwhere(known & ~((r >= 0) & (r <= 1)))[0]
        raise ValueError(f"accuracy matrix has {r[i, j]} at [{i}][{j}]; entries up to the diagonal must be in 0..1")

    last, diagonal = r[-1], np.diagonal(r)
    best = np.where(known, r, -np.inf).max(axis=0)  # (T,)
    return {
        "accuracy_matrix": [[float(r[i, j]) if j <= i else None for j in range(tasks)] for i in range(tasks)],
        "average_accuracy": float(last.mean()),
        "average_incremental_accuracy": float(np.mean([r[i, : i + 1].mean() for i in range(tasks)])),
        "forgetting": _mean_or_zero((best - last)[:-1]),
        "backward_transfer": _mean_or_zero((last - diagonal)[:-1]),
        "learning_accuracy": float(diagonal.mean()),
    }


def summarize_drifting(curve: ArrayLike | Sequence[Optional[float]]) -> dict[str, Any]:
    """Compute the metrics of a drifting stream, whose tasks use the same labels again, so that none is tested later.

    Args:
        curve: `R[i][i]`, [T], accuracy in 0..1 on each task right after it was learned.

    Returns:
        A dictionary ready for JSON, accuracies in 0..1:
            learning_curve: The curve.
            learning_accuracy: Its mean.
            first_20: Mean over the first 20 tasks, or all if there are fewer.
            last_100: Mean over the last 100 tasks, or all if there are fewer.
        First and last tasks as in Dohare et al. (Nature 2024): a network that loses plasticity ends below its start.

    Raises:
        ValueError: the curve is not a vector, is empty, or has an entry outside 0..1 (or none).
    """
    r = np.array(curve, dtype=np.float64)  # None becomes NaN
    if r.ndim != 1 or not len(r):
        raise ValueError(f"learning curve has shape {r.shape}; it must be [tasks] with at least one task")
    valid = (r >= 0) & (r <= 1)  # NaN fails both comparisons
    if not np.all(valid):
        i = int(np.argmin(valid))
        raise ValueError(f"learning curve has {r[i]} at [{i}]; entries must be in 0..1")
    return {
        "learning_curve": r.tolist(),
        "learning_accuracy": float(r.mean()),
        "first_20": float(r[:FIRST].mean()),
        "last_100": float(r[-LAST:].mean()),
    }


def over_seeds(metrics: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Optional[float]]]:
    """Compute mean and standard deviation over seeds of every scalar metric.

    Args:
        metrics: one dictionary per seed, as `summarize` or `summarize_drifting` returns it; other entries may stand
            beside the metrics.

    Returns:
        {name: {"mean", "std"}} of every name that is a finite number in all of the dictionaries, in the order of the
        first; std is that of the sample (n - 1), None for a single seed.

    Raises:
        ValueError: there is no dictionary.
    """
    if not metrics:
        raise ValueError("no metrics given; there must be one dictionary per seed, and at least one")
    found: dict[str, dict[str, Optional[float]]] = {}
    for name in metrics[0]:
        values = [float(row[name]) for row in metrics if _is_finite(row.get(name))]
        if len(values) == len(metrics):
            std = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found[name] = {"mean": float(np.mean(values)), "std": std}
    return found


def effective_rank(activations: ArrayLike) -> float:
    """Return the effective rank, exp(entropy of the normalised singular values); Roy & Vetterli, EUSIPCO 2007, eq. 2-4.

    Args:
        activations: [N, U], finite; not centred here.

    Returns:
        A number between 1 and min(N, U); 0 if every activation is zero.

    Raises:
        ValueError: not a non-empty matrix of finite numbers.
    """
    sigma = np.linalg.svd(_activations(activations), compute_uv=False)
    if sigma[0] == 0:
        return 0.0
    p = sigma / sigma.sum()
    p = p[p > 0]
    return float(np.exp(-np.sum(p * np.log(p))))


def dead_unit_share(activations: ArrayLike, tolerance: float = 0.0) -> float:
    """Return the share of the units that are never active (Dohare et al., Nature 2024, "dead units").

    Args:
        activations: [N, U], finite, after the ReLU.
        tolerance: magnitude up to which an activation counts as zero.

    Returns:
        The share of units that are zero on all N rows, in 0..1.

    Raises:
        ValueError: not a non-empty matrix of finite numbers.
    """
    return float(np.mean(np.all(np.abs(_activations(activations)) <= tolerance, axis=0)))


def _activations(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not array.size or not np.all(np.isfinite(array)):
        raise ValueError(f"activations have shape {array.shape}; they must be [rows, units], not empty, all finite")
    return array


def _mean_or_zero(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))
