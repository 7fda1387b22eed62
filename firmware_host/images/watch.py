"""Which frames of a camera are worth a prediction, and when what is said of them is settled.

Dimensions: N cells a side of a small copy of a frame.
"""

from __future__ import annotations

from collections import deque
from typing import Optional

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.shared.packages import need_pillow

__all__ = ["Watch"]

CELLS = 64  # N; a frame is compared as averages over N x N cells, most of the noise is gone in these
FLOOR, CEILING = 4.0, 16.0  # brightness levels of 255: a cell that changes by less has not; by more, it always has
NOISY_CELLS = 99.0  # percentile of the cells' changes from one frame to the next
ABOVE_NOISE = 2.5
LOOKS = 20  # frames that the noise is measured on: the stillest of them says it


class Watch:
    """What is worth a prediction, and what is settled.

    With `motion`, a frame is worth one where some cell differs from that of the last frame predicted by more than the
    camera's noise, and as long as the answer is not settled.

    Args:
        agree: answers in a row that must be the same before one is settled.
        motion: whether frames in which nothing moved are left out.

    Attributes:
        settled: whether the last `agree` answers are the same.
        news: whether the last answer is settled and another one than was settled before.
    """

    def __init__(self, agree: int = 1, motion: bool = False) -> None:
        if agree < 1:
            raise DeviceError(f"agree is {agree}: use 1 or more")
        if motion:
            need_pillow()
        self._agree, self._motion = agree, motion
        self._noise: deque[float] = deque(maxlen=LOOKS)
        self._before: Optional[Array] = None
        self._said: list[Optional[str]] = []
        self.forget()

    def forget(self) -> None:
        """Begin again: what was seen and said counts no more."""
        self._predicted: Optional[Array] = None
        self._answers: deque[Optional[str]] = deque(maxlen=self._agree)
        self.settled = self.news = False

    def wants(self, frame: Array) -> bool:
        """Return whether a frame [h, w, 3] is worth a prediction; it is then taken for the last one predicted."""
        if not self._motion:
            return True
        cells = _cells(frame)
        if self._before is not None:
            self._noise.append(float(np.percentile(np.abs(cells - self._before), NOISY_CELLS)))
        self._before = cells
        if self._predicted is not None and self.settled and not self._moved(np.abs(cells - self._predicted)):
            return False
        self._predicted = cells
        return True

    def hear(self, answer: Optional[str]) -> bool:
        """Take the answer to a frame, None for none of the classes; return whether it is settled."""
        self._answers.append(answer)
        self.settled = len(self._answers) == self._agree and len(set(self._answers)) == 1
        self.news = self.settled and self._said != [answer]
        if self.settled:
            self._said = [answer]
        return self.settled

    def _moved(self, change: Array) -> bool:
        noise = ABOVE_NOISE * min(self._noise, default=0.0)
        return bool(change.max() > min(max(noise, FLOOR), CEILING))


def _cells(frame: Array) -> Array:
    """Return the averages of N x N cells: [N, N, 3], float32."""
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize((CELLS, CELLS), Image.Resampling.BOX), np.float32)
