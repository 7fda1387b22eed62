"""Pictures held in memory, by number, never on disk: what was just taught, and what was doubtful.

Dimensions: H, W pixels.
"""

from __future__ import annotations

import io
import threading
from typing import Any, Optional

from firmware_host.engines.protocol import Array

__all__ = ["Pictures", "as_jpeg", "as_png"]

THUMBNAIL = 96  # pixels, the longer side
FRAME_WIDTH = 640
QUALITY = 80
RECENT, TAUGHT = 24, 48  # predictions listed, images taught
HELD = 2 * RECENT  # pictures of predictions: a page may still show what is listed no more
APART_S = 1.0  # of predictions closer together than this, the most doubtful one is held


class Pictures:
    """The last doubtful predictions, with their pixels as the backbone takes them, and the last images taught."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._recent: dict[int, tuple[dict[str, Any], float]] = {}
        self._predicted: dict[int, Array] = {}
        self._taught: dict[int, Array] = {}

    def predicted(self, pixels: Array, record: dict[str, Any], now: float) -> Optional[int]:
        """Hold a prediction where it is more doubtful than those about the same time; return its number if it is."""
        with self._lock:
            last = next(reversed(list(self._recent)), None)
            if last is not None and now - self._recent[last][1] < APART_S:
                if record["doubt"] <= self._recent[last][0]["doubt"]:
                    return None
                now = self._recent.pop(last)[1]
            self._number += 1
            self._recent[self._number] = ({**record, "image": self._number}, now)
            self._predicted[self._number] = pixels
            _shorten(self._recent, RECENT)
            _shorten(self._predicted, HELD)
            return self._number

    def taught(self, pixels: Array) -> int:
        """Hold a small copy of an image that was taught; return its number."""
        step = -(-max(pixels.shape[:2]) // THUMBNAIL)
        with self._lock:
            self._number += 1
            self._taught[self._number] = pixels[::step, ::step].copy()
            _shorten(self._taught, TAUGHT)
            return self._number

    def recent(self) -> list[dict[str, Any]]:
        """Return the predictions held, the most doubtful first."""
        with self._lock:
            records = [record for record, _ in self._recent.values()]
        return sorted(records, key=lambda record: -record["doubt"])

    def find(self, number: int) -> Optional[Array]:
        """Return the pixels [H, W, 3] of a picture; None where it is not held any more."""
        with self._lock:
            return self._predicted.get(number, self._taught.get(number))

    def settled(self, number: int) -> None:
        """List a prediction no more: it was corrected."""
        with self._lock:
            self._recent.pop(number, None)

    def clear(self) -> None:
        """List no prediction any more: what the device says of them has changed."""
        with self._lock:
            self._recent.clear()


def as_png(pixels: Array) -> bytes:
    """Return a picture [H, W, 3] as a PNG file."""
    return _saved(pixels, None, format="PNG")


def as_jpeg(pixels: Array) -> bytes:
    """Return a camera's picture [H, W, 3] as a JPEG file, no wider than the page needs it."""
    return _saved(pixels, FRAME_WIDTH, format="JPEG", quality=QUALITY)


def _saved(pixels: Array, width: Optional[int], **how: Any) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    if width is not None and image.width > width:
        image.thumbnail((width, image.height))
    file = io.BytesIO()
    image.save(file, **how)
    return file.getvalue()


def _shorten(held: dict[int, Any], most: int) -> None:
    for number in list(held)[:-most]:
        del held[number]
