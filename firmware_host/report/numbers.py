"""The numbers of a report: confusion, intervals, calibration, rejection of what is unknown.

Dimensions: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from firmware_host.engines.protocol import Array
from firmware_host.images import ImageLike
from firmware_host.prediction import Prediction

__all__ = ["Bin", "Judged", "Pair", "area_under_roc", "bins", "calibration_error", "confused", "confusion", "interval"]

Z = 1.959964  # two-sided 95 %
BINS = 10


class Judged(NamedTuple):
    """An image, the class it is of (None: of none that the device knows), and what the device said."""

    image: ImageLike
    label: str | None
    found: Prediction


class Bin(NamedTuple):
    """Predictions of about the same probability: the mean of it, the share that is right, how many they are."""

    probability: float
    right: float
    images: int


class Pair(NamedTuple):
    """Images of class `label` that were taken for `taken_for`."""

    label: str
    taken_for: str
    images: list[ImageLike]


def confusion(classes: Sequence[str], judged: Sequence[Judged]) -> Array:
    """Return how many images of each class, a row, were taken for each class, a column: int [C, C]."""
    place = {name: index for index, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), int)
    for one in judged:
        if one.label is not None:
            counts[place[one.label], place[one.found.label]] += 1
    return counts


def interval(right: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, `right` of `images` (Wilson 1927)."""
    if images == 0:
        return 0.0, 1.0
    share, square = right / images, Z * Z / images
    middle = share + square / 2.0
    half = Z * (share * (1.0 - share) / images + square / (4.0 * images)) ** 0.5
    low, high = (middle - half) / (1.0 + square), (middle + half) / (1.0 + square)
    return max(0.0, low), min(1.0, high)


def bins(judged: Sequence[Judged]) -> list[Bin]:
    """Return the predictions of images with a label by their probability, in ten bins; those without any left out."""
    labelled = [one for one in judged if one.label is not None]
    sure = np.array([one.found.probability for one in labelled])
    right = np.array([one.found.label == one.label for one in labelled])
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    rows = [np.flatnonzero(place == index) for index in range(BINS)]
    return [Bin(float(sure[row].mean()), float(right[row].mean()), len(row)) for row in rows if len(row)]


def calibration_error(found: Sequence[Bin]) -> float:
    """Return the expected calibration error (Guo et al. 2017): the mean over images of |probability - right|."""
    images = sum(each.images for each in found)
    return sum(each.images * abs(each.probability - each.right) for each in found) / max(images, 1)


def confused(judged: Sequence[Judged]) -> list[Pair]:
    """Return the pairs of classes that were confused, the most images first."""
    pairs: dict[tuple[str, str], list[ImageLike]] = {}
    for one in judged:
        if one.label is not None and one.found.label != one.label:
            pairs.setdefault((one.label, one.found.label), []).append(one.image)
    return sorted((Pair(*names, images) for names, images in pairs.items()), key=lambda pair: -len(pair.images))


def area_under_roc(known: Sequence[float], strangers: Sequence[float]) -> float:
    """Return how often an image of no known class is more novel than one of a known class; of equals a half."""
    order = np.sort(np.asarray(known))
    below, to = (np.searchsorted(order, strangers, side) for side in ("left", "right"))
    return float(np.mean((below + to) / 2.0) / len(order))
