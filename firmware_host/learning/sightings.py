"""When what is seen of unknown images is saved: soon once a group is worth a name, else now and then.

A state is written as a whole, and storage wears out, so not every image can be saved that is seen; a power cut costs
what was seen since.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from firmware_host.prediction import Prediction
from firmware_host.shared.bank.unknowns import OFFERED

__all__ = ["Sightings"]

SOON_S = 60.0  # least time between two saves
LATER_S = 900.0  # where no group has become worth a name


class Sightings:
    """The unknown images seen since the last save.

    Args:
        clock: gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.saved()

    def saved(self) -> None:
        """Hear that all of it is saved."""
        self.waiting = False  # whether there is anything to be saved
        self._offered = False
        self._last = self._clock()

    def due(self, found: Prediction) -> bool:
        """Take in what was predicted; return whether it is time to save."""
        if found.group is not None:
            self.waiting = True
            self._offered |= found.alike == OFFERED
        return self.waiting and self._clock() - self._last >= (SOON_S if self._offered else LATER_S)
