"""The camera of a device in use: calibration by a few images, and what lessons say of it.

Dimensions: n images, d features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.evaluation import check_lengths
from firmware_host.learning.calibration import left_open, offsets_of_others
from firmware_host.shared.names import known_name

if TYPE_CHECKING:
    from firmware_host.images import ImageLike
    from firmware_host.learning.lessons import Lessons
    from firmware_host.learning.working_state import WorkingState

__all__ = ["Camera"]

Read = Callable[[Sequence["ImageLike"], Any], Array]  # images and progress to features [n, d] as stored


class Camera:
    """The camera of a device in use.

    Args:
        working: what the device knows.
        lessons: how that is changed.
        read: images to features as they are stored.
    """

    def __init__(self, working: WorkingState, lessons: Lessons, read: Read) -> None:
        self._working, self._lessons, self._read = working, lessons, read

    @property
    def offset(self) -> Array:
        """The offset [d] in use; zero without calibration."""
        return self._working.camera.offset.copy()

    @property
    def follows(self) -> bool:
        """Whether predictions find the offset by themselves where they show it beyond doubt; see `Following`."""
        return self._working.follows

    @follows.setter
    def follows(self, follows: bool) -> None:
        self._working.follows = follows

    @property
    def said(self) -> Optional[str]:
        """What the last lesson of several images said of the camera; see `camera_state.lesson_through`."""
        return self._working.said

    def calibrate(
        self, images: Sequence[ImageLike], labels: Sequence[str] | None = None, progress: Any = None
    ) -> dict[str, Any]:
        """Estimate the offset from one to five images a class, and use it from now on; nothing is saved yet.

        Classes that were taught through this camera move along.

        Args:
            images: paths, or uint8 RGB arrays [h, w, 3].
            labels: a class name per image, as the classes that the bundle came with are called; images of others do
                not count. None: images of several such classes, not labelled.
            progress: called with (what, done, total).

        Returns:
            images that counted, classes of them (None without labels), left_out, offset (root mean square over
            directions, in deviations within a class) and found (whether it is more than chance and worth a word).

        Raises:
            DeviceError: the images tell nothing: of no such class, one alone, all alike; or they are not images, or the
                state folder is in use. Nothing is changed then.
        """
        working = self._working
        self._lessons.check_free()
        host = working.camera.of_host(working.statistics)
        chosen, slots = np.arange(len(images)), None
        if labels is not None:
            check_lengths(images, labels)
            chosen, slots = self._known(labels, host)
        raw = self._read([images[row] for row in chosen], progress)
        feature = working.plain(raw)
        try:
            reference = working.camera.reference(working.statistics)[1]
            found = reference.offset(feature, slots)
        except ValueError as error:
            raise DeviceError(str(error)) from None
        unseen = feature - offsets_of_others(reference, feature, found)
        # The same camera treats no class differently.
        self._move(found.vector, self._apart(raw, host[found.label]) if found.found else 0.0, unseen)
        return {
            "images": len(chosen),
            "classes": None if slots is None else len(np.unique(slots)),
            "left_out": len(images) - len(chosen),
            "offset": found.size,
            "found": found.found,
        }

    def reset(self) -> None:
        """Use no offset from now on; raises DeviceError when the state folder is in use."""
        self._move(np.zeros_like(self._working.camera.offset), 0.0, None)

    def _move(self, offset: Array, apart: float, unseen: Array | None) -> None:
        """Use an offset [d]; `unseen`: as of `WorkingState.usual_through_camera`, images that had no part in it."""
        with self._lessons.change():
            self._lessons.lock()
            self._working.move_camera(offset, apart)
            self._working.usual_through_camera(unseen)

    def _apart(self, raw: Array, slots: Array) -> float:
        """Return what this camera is to leave open in class means, by its images [n, d] as stored, of `slots` [n]."""
        statistics, mixture = self._working.statistics, self._working.mixture
        if mixture is None:
            return 0.0
        away = mixture.white(self._working.plain(raw)) - mixture.white(statistics.mean[slots])
        return left_open(away, slots, statistics.count)

    def _known(self, labels: Sequence[str], host: Array) -> tuple[Array, Array]:
        """Return the rows of images of the bundle's classes, and which of `host` each is of."""
        classes = self._working.classes
        names = [known_name(label, classes) for label in labels]
        known = {classes[slot]: place for place, slot in enumerate(host)}
        rows = [row for row, name in enumerate(names) if name in known]
        if not rows:
            raise DeviceError(
                f"none of the images is of a class that came with the bundle, they are of "
                f"{', '.join(dict.fromkeys(names))}: "
                + (f"give images of {', '.join(known)}" if known else "there is no such class to calibrate by")
            )
        return np.array(rows), np.array([known[names[row]] for row in rows])
