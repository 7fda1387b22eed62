"""From a recording to a picture: time runs down, subcarriers or channels run across.

Nothing is estimated from other recordings, so a device needs no numbers of the host's.

Dimensions: T samples of a recording, A antennas, S subcarriers, C channels; a picture has 32 x 32 pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["SIDE", "csi_picture", "resampled", "series_picture"]

Array = np.ndarray[Any, Any]
SIDE = 32  # time bins, and columns
DEVIATIONS = 2.5  # from the mean, beyond which a standardised value is black or white
DECADES = 4.0  # below and above 1 that a level may have, in any unit
EPSILON = 1e-9


def resampled(values: Array, count: int, axis: int) -> Array:
    """Return the means over `count` bins of equal length along `axis`, float64; a sample lasts until the next one.

    A bin takes the part of a sample that lies in it, so that any number of samples becomes any number of bins.
    """
    moved = np.moveaxis(np.asarray(values, np.float64), axis, 0)  # (n, ...)
    sums = np.concatenate([np.zeros((1, *moved.shape[1:])), np.cumsum(moved, axis=0)])  # up to each sample's start
    edges = np.linspace(0.0, len(moved), count + 1)
    before = np.minimum(edges.astype(np.int64), len(moved) - 1)
    part = (edges - before).reshape(-1, *[1] * (moved.ndim - 1))
    up_to = sums[before] + part * moved[before]  # (count + 1, ...)
    return np.moveaxis(np.diff(up_to, axis=0) * (count / len(moved)), 0, axis)


def csi_picture(amplitude: Array) -> Array:
    """Return channel state as a picture, uint8 [32, 32, 3]: time x subcarrier x antenna.

    Args:
        amplitude: absolute values, [T, 3, S]; standardised over the whole recording, so that gain does not count.
    """
    small = resampled(resampled(amplitude, SIDE, axis=0), SIDE, axis=2)  # (32, 3, 32)
    return _grey(_standardised(small, None).transpose(0, 2, 1) / DEVIATIONS)


def series_picture(window: Array) -> Array:
    """Return a window of any sensor as a picture, uint8 [32, 32, 3]: time x channel x what is said of it.

    Red is each channel's course, standardised, so that its unit does not count; green its level and blue how much it
    varies within a time bin, both as logarithms, so that any unit fits.

    Args:
        window: [T, C]; fewer than 32 channels take several columns each.
    """
    window = np.asarray(window, np.float64)
    level = resampled(window, SIDE, axis=0)  # (32, C)
    varies = np.sqrt(np.maximum(resampled(np.square(window), SIDE, axis=0) - np.square(level), 0.0))
    size = np.log10(1.0 + np.abs(level) * 10.0**DECADES) / (2.0 * DECADES)
    planes = (
        _standardised(level, 0) / DEVIATIONS,
        np.sign(level) * size,
        np.log10(1.0 + varies * 10.0**DECADES) / DECADES - 1.0,
    )
    return np.stack([_grey(resampled(plane, SIDE, axis=1)) for plane in planes], axis=-1)


def _standardised(values: Array, axis: int | None) -> Array:
    deviation = values.std(axis=axis, keepdims=True)
    centred = values - values.mean(axis=axis, keepdims=True)
    return np.asarray(centred / np.maximum(deviation, EPSILON))


def _grey(values: Array) -> Array:
    """Return grey levels of values from -1 to 1."""
    levels: Array = np.rint(127.5 * (np.clip(values, -1.0, 1.0) + 1.0)).astype(np.uint8)
    return levels
