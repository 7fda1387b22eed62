"""A sensor that was moved: what its recordings of a class look like has changed for good."""

from __future__ import annotations

import numpy as np

from firmware_host.bundle import ClassStatistics
from firmware_host.fleet.own import Own
from firmware_host.learning.camera_state import CameraState
from firmware_host.learning.working_state import WorkingState

__all__ = ["forget_looks"]

FEW = 20.0  # images that the spread within classes counts for from then on: it differs from place to place, too


def forget_looks(working: WorkingState) -> None:
    """Forget where the classes lie; their names and slots stay, and to begin with how images of one class differ.

    A class is predicted again from its next image on. The head's weights stay as well: they start from there.
    """
    working.unknowns.clear()
    state, old, camera = working.head.get_state(), working.statistics, working.camera
    for name in ("class_mean", "class_count", "class_mask"):
        state[name] = np.zeros_like(state[name])
    working.head.set_state(state)
    # Its count of images is lost with those of the classes: what is left counts as one.
    spread = old.covariance()
    working.statistics = ClassStatistics(np.zeros_like(old.mean), np.zeros_like(old.count), spread, old.shrinkage)
    working.camera = CameraState(np.zeros_like(camera.offset), np.zeros_like(camera.images))
    working.usual_through_camera(None)
    working.doubted = np.zeros_like(working.doubted)
    working.buffer = working.pending = None
    working.own = Own(np.array(working.bundle.head["feature_scale"]))
    working.own.moved = True
    if working.mixture is not None:
        working.mixture.bank.sums.fade(FEW)
        for label in working.mixture.bank.labels:
            working.mixture.bank.forget(int(label))
