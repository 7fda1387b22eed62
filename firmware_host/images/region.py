"""The part of a camera's picture that is looked at.

Dimensions: h, w pixels of a frame.
"""

from __future__ import annotations

from typing import NamedTuple

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array

__all__ = ["WHOLE", "Region"]

ROUNDING = 1e-9


class Region(NamedTuple):
    """A rectangle in shares of the picture, 0 to 1, so that it is the same at every resolution.

    Attributes:
        left: of its left edge, from the left.
        top: of its upper edge, from the top.
        width: of its width.
        height: of its height.
    """

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, text: str) -> Region:
        """Return the region that a user gave as x,y,w,h; raises DeviceError where it is none or not in the picture."""
        try:
            region = cls(*map(float, text.split(",")))
        except (TypeError, ValueError):
            raise DeviceError(f"region is {text!r}: use x,y,w,h, four shares of the picture from 0 to 1") from None
        for start, size in ((region.left, region.width), (region.top, region.height)):
            if not (0.0 <= start < 1.0 and 0.0 < size <= 1.0 and start + size <= 1.0 + ROUNDING):
                raise DeviceError(
                    f"region {text} is not inside the picture: use shares of it with x + w and y + h at most 1, such "
                    "as 0.25,0.25,0.5,0.5 for its middle"
                )
        return region

    def cut(self, frame: Array) -> Array:
        """Return this part of a frame [h, w, 3], a view; at least one pixel."""
        rows = _pixels(self.top, self.height, frame.shape[0])
        columns = _pixels(self.left, self.width, frame.shape[1])
        part: Array = frame[rows, columns]
        return part


def _pixels(start: float, size: float, all_of_them: int) -> slice:
    first = min(round(start * all_of_them), all_of_them - 1)
    return slice(first, max(round((start + size) * all_of_them), first + 1))


WHOLE = Region(0.0, 0.0, 1.0, 1.0)
