"""This computer's screen, through Pillow: something to try everything on without a camera."""

from __future__ import annotations

from typing import Optional

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.images.cameras.kind import Kind, Takes, check_frame, ticks
from firmware_host.shared.packages import need_pillow

__all__ = ["SCREEN"]

PIXEL_BYTES = 12  # Pillow's image and our copy


def _open(source: str, max_memory_mb: Optional[float]) -> Takes:
    first = _grab(source)
    check_frame(source, first.shape[1], first.shape[0], PIXEL_BYTES, max_memory_mb)
    return _grabbed(source)


def _grabbed(source: str) -> Takes:
    for _ in ticks():
        yield lambda: _grab(source)


def _grab(source: str) -> Array:
    need_pillow()
    from PIL import ImageGrab

    try:
        return np.array(ImageGrab.grab().convert("RGB"), np.uint8)
    except Exception as error:  # of the system's programs that take the picture, anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeviceError(f"{source} cannot be read ({reason}): start it where there is a display (DISPLAY)") from None


SCREEN = Kind("screen", "this computer's", "screen", _open)
