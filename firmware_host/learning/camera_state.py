"""What a device keeps of its camera: the offset of its features from those of the host's images.

It is taken from every feature as it is dequantized, so that class statistics, replay, block and bank stay in the host's
terms. Dimensions: n images, d features, C class slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from firmware_host.bundle import ClassStatistics
from firmware_host.engines.protocol import Array
from firmware_host.learning.calibration import Reference
from firmware_host.shared.bank.novelty import SAME_CAMERA

__all__ = ["ASSUMED", "MOVED", "UNCLEAR", "CameraState", "lesson_through"]

MOVED = "moved"  # the lesson's images of known classes lie off those classes
UNCLEAR = "unclear"  # a lesson of new classes alone, too far from all known ones for classes of the same camera
ASSUMED = "assumed"  # the same, and an offset was taken for it; see far_lesson.py


class CameraState:
    """What is kept of a camera.

    Args:
        offset: [d], taken from every feature.
        images: [C], how many of each class's images were taken by this camera and not by the host's.
        apart: what the camera leaves open in the means of the other classes; see `left_open` in calibration.py.
        novelty: [2, 2], what it changes in how novel images of known classes are; see `Novelty.camera`.
    """

    def __init__(self, offset: Array, images: Array, apart: float = 0.0, novelty: Array = SAME_CAMERA) -> None:
        self.offset = np.array(offset, np.float32)
        self.images = np.array(images, np.float32)
        self.apart = float(apart)
        self.novelty = np.array(novelty, np.float64)

    def arrays(self) -> dict[str, Array]:
        """Return copies by name."""
        return {
            "offset": self.offset.copy(),
            "images": self.images.copy(),
            "apart": np.array(self.apart),
            "novelty": self.novelty.copy(),
        }

    @classmethod
    def restored(
        cls, arrays: Mapping[str, Array] | None, statistics: ClassStatistics, own: Sequence[int]
    ) -> CameraState:
        """Return what `arrays` says; where nothing was kept, all images of the slots `own` are this camera's."""
        if arrays is not None:
            apart, novelty = float(arrays.get("apart", 0.0)), arrays.get("novelty", SAME_CAMERA)
            return cls(arrays["offset"], arrays["images"], apart, novelty)
        images = np.zeros(len(statistics.count))
        images[list(own)] = statistics.count[list(own)]
        return cls(np.zeros(statistics.mean.shape[1]), images)

    def took(self, label: Array) -> None:
        """Count images of the slots `label` [n]."""
        np.add.at(self.images, label, 1.0)

    def share(self, statistics: ClassStatistics) -> Array:
        """Return [C], which share of each class's images this camera took."""
        share: Array = np.clip(self.images / np.maximum(statistics.count, 1.0), 0.0, 1.0)
        return share

    def left_open(self, statistics: ClassStatistics, apart: float | None = None) -> Array:
        """Return [C], what the camera leaves open in each class's mean: of the share that others took, squared.

        apart: what it leaves open at all; None: what it does.
        """
        open_: Array = (self.apart if apart is None else apart) * (1.0 - self.share(statistics)) ** 2
        return open_

    def reference(self, statistics: ClassStatistics) -> tuple[Array, Reference]:
        """Return the slots of `of_host` and what they look like; raises ValueError where that is not known."""
        host = self.of_host(statistics)
        return host, Reference(statistics.mean[host], statistics.covariance())

    def is_far(self, statistics: ClassStatistics, feature: Array, label: Array) -> bool:
        """Return whether new classes, features [n, d] of the slots `label` [n], lie too far from all of `of_host`."""
        try:
            return self.reference(statistics)[1].unlike_any(feature, label)
        except ValueError:  # there is nothing to tell by
            return False

    def of_host(self, statistics: ClassStatistics) -> Array:
        """Return the slots of classes that most images of came from the host, ascending."""
        return np.flatnonzero((statistics.count > 0) & (self.share(statistics) < 0.5))


def lesson_through(camera: CameraState, statistics: ClassStatistics, feature: Array, label: Array) -> Optional[str]:
    """Return what a lesson, features [n, d] of the slots `label` [n], says of the camera before it is learned.

    `MOVED`, `UNCLEAR`, or None where there is nothing to say. Images of one known class alone say nothing: they may be
    of another kind.
    """
    try:
        host, reference = camera.reference(statistics)
        known = np.isin(label, host)
        if len(np.unique(label[known])) > 1:
            found = reference.offset(feature[known], np.searchsorted(host, label[known])).found
            return MOVED if found else None
    except ValueError:  # there is nothing to tell by
        return None
    new = statistics.count[label] == 0
    return UNCLEAR if new.all() and reference.unlike_any(feature, label) else None
