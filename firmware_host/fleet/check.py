"""Which deltas are refused: those of other features, and those that no images can have given.

A delta that a key holder signed may still be wrong, by a defect or on purpose. What passes here can be wrong in what it
teaches, never in a way that breaks sums: see `Exchange` for taking such a device's lessons out again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from firmware_host.fleet.delta import Array, Delta
from firmware_host.shared.errors import DeviceError

__all__ = ["Expected", "checked"]

MOST_IMAGES = 1e6  # of a class, from one device
FAR = 100.0  # deviations of a feature that no mean is off by
SLACK = 1e-6  # of a scatter's trace, for rounding
ROWS_SLACK = 1.05  # and of what rows may come to, in half precision


class Expected(NamedTuple):
    """What a bundle expects of deltas: SHA-256 of its backbone, mean [d] and scale [d] of the features."""

    backbone: str
    mean: Array
    scale: Array


def checked(delta: Delta, expected: Expected, devices: int = 1) -> Delta:
    """Return the delta.

    Args:
        delta: what is checked.
        expected: what it has to be like.
        devices: whose lessons it is the sum of; each may have as many images as one.

    Raises:
        DeviceError: it is of another backbone, or no images can have given it; one line says why.
    """
    if delta.features != len(expected.mean):
        raise DeviceError(
            f"its features have {delta.features} values, those of this bundle {len(expected.mean)}: use one bundle"
        )
    if delta.backbone != expected.backbone:
        raise DeviceError(
            f"it was learned with another backbone ({delta.backbone[:12]}, this bundle has {expected.backbone[:12]}): "
            "use one bundle in a group"
        )
    if delta.version < 1:
        raise DeviceError("its version is below 1")
    for name, share in delta.classes.items():
        if not 1.0 <= share.images <= devices * MOST_IMAGES:  # which NaN is not, either
            raise DeviceError(
                f"class {name!r} has {share.images:g} images: 1 to {devices * MOST_IMAGES:g} are possible"
            )
        if not (np.isfinite(share.mean).all() and np.isfinite(share.rows).all()):
            raise DeviceError(f"class {name!r} has numbers that are not finite")
        if not np.all(np.abs(share.mean - expected.mean) <= FAR * expected.scale):
            raise DeviceError(f"the mean of class {name!r} is more than {FAR:g} deviations from all images")
    _check_scatter(delta, expected, devices)
    return delta


def _check_scatter(delta: Delta, expected: Expected, devices: int) -> None:
    if not np.isfinite(delta.scatter).all():
        raise DeviceError("its scatter has numbers that are not finite")
    white = delta.scatter / np.outer(expected.scale, expected.scale)
    trace, d = float(np.trace(white)), len(white)
    if not delta.degrees <= devices * MOST_IMAGES * 100.0:
        raise DeviceError(f"it stands for {delta.degrees:g} images")
    if not -SLACK <= trace <= FAR**2 * d * max(delta.degrees, SLACK) + SLACK:
        raise DeviceError(f"its scatter is larger than {delta.degrees:g} images can have")
    if float(np.linalg.eigvalsh(white)[0]) < -SLACK * max(trace, 1.0):
        raise DeviceError("its scatter is not one: it is negative in a direction")
    rows = sum(float(np.square(share.rows / expected.scale).sum()) for share in delta.classes.values())
    if rows > ROWS_SLACK * trace + SLACK * d:
        raise DeviceError("the rows of its classes come to more than its scatter")
