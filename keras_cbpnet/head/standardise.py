"""Constants of a head's features, taken once from some images: mean and scale, or a whole whitening transform."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Dimensions: N images, d feature size.


def mean_and_scale(features: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return mean and scale, each [d], of x = (feature - mean) / scale from `features` [N, d].

    The scale is the standard deviation, but a dimension that hardly varies is scaled like the average one, so that it
    cannot explode later.
    """
    deviation = features.std(axis=0)
    typical = float(np.sqrt(np.mean(deviation**2))) or 1.0
    return features.mean(axis=0), np.maximum(deviation, 0.1 * typical)


def whitening(
    features: NDArray[np.floating], labels: NDArray[np.integer], shrinkage: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean [d] and matrix [d, d] of x = (feature - mean) matrix, whose covariance within the classes is 1.

    The matrix is C^(-1/2), with C the covariance within the classes, shrunk towards a multiple of the identity (Ledoit
    and Wolf, 2004), so that directions in which nothing was seen are not blown up. Where every class is one point, it
    is the identity.

    Args:
        features: [N, d].
        labels: class of each row, [N].
        shrinkage: share of the identity, 0..1.
    """
    features = features.astype(np.float64)
    _, group = np.unique(labels, return_inverse=True)
    count = np.bincount(group)
    means = np.stack([np.bincount(group, column) / count for column in features.T], axis=1)  # (K, d)
    within = features - means[group]
    covariance = within.T @ within / max(1, len(features) - len(count))
    identity = np.eye(len(covariance))
    average = np.trace(covariance) / len(covariance)
    if average == 0:
        return features.mean(axis=0), identity
    values, vectors = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * average * identity)
    return features.mean(axis=0), (vectors / np.sqrt(values)) @ vectors.T
