"""A camera's offset from the stream of predictions alone, without a label: slowly, and only where that is safe.

The images predicted last are given to the classes that they are nearest to, as in a calibration without labels. Their
offset is believed only if it is more than chance explains, if three classes or more show it, and if every other image
tells the same as the rest do. Images of unknown classes fail that: each class lies off in a direction of its own. Then
half of the offset is taken, and the images that follow decide about the rest.

Dimensions: d features, N images.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Optional

import numpy as np

from firmware_host.bundle import ClassStatistics
from firmware_host.engines.protocol import Array
from firmware_host.learning.calibration import Offset, Reference
from firmware_host.learning.camera_state import CameraState

__all__ = ["Following"]

# Found with digits and photographs through simulated cameras; see benchmarks/NOTES.md.
LAST = 64  # images that tell an offset
FIRST = 32  # images before the first look
EVERY = 16  # images between two looks
CLASSES = 3  # that have to show it
ALIKE = 0.7  # least cosine between what either half of the images tells
SHARE = 0.5  # of an offset that is taken at once


logger = logging.getLogger(__name__)


class Following:
    """The images of a stream of predictions, as long as they tell an offset; kept in memory alone."""

    def __init__(self) -> None:
        self._features: deque[Array] = deque(maxlen=LAST)  # [d] each, no offset taken from them
        self._until = FIRST

    @property
    def features(self) -> Array:
        """The features [N, d] of the images predicted last, no offset taken from them."""
        return np.stack(self._features)

    def see(self, feature: Array, camera: CameraState, statistics: ClassStatistics) -> Optional[Array]:
        """Take in an image's feature [d], less the offset in use; return a better offset [d] where there is one."""
        self._features.append(feature + camera.offset)
        self._until -= 1
        if self._until > 0:
            return None
        self._until = EVERY
        try:
            found = _trusted(camera.reference(statistics)[1], np.stack(self._features) - camera.offset)
        except ValueError:  # nothing to tell by, all images of one class, or all alike
            return None
        if found is None:
            return None
        logger.warning(
            "these images come from a camera that differs from the host's (%.2f of the spread within a class): an "
            "offset is taken from them from now on; `calibrate` finds it with labels and keeps it",
            found.size,
        )
        better: Array = camera.offset + SHARE * found.vector
        return better


def _trusted(reference: Reference, feature: Array) -> Optional[Offset]:
    """Return the offset that features [N, d] show, or None where it may be something else."""
    found = reference.offset(feature)
    if not found.found or len(np.unique(found.label)) < CLASSES:
        return None
    one, other = (reference.white(reference.offset(half).vector) for half in (feature[::2], feature[1::2]))
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return found if float(one @ other) >= ALIKE * length > 0.0 else None
