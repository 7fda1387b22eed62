"""All of a change to what a device knows, or none of it."""

from __future__ import annotations

from firmware_host.learning.working_state import WorkingState

__all__ = ["Transaction"]


class Transaction:
    """A context in which `working` may change; any exception, an interrupt too, brings back what was there before.

    Attributes:
        before: what is brought back.
        kept: whether a part of the change is kept in any case.
        taken_back: whether the last change did not happen.
    """

    def __init__(self, working: WorkingState) -> None:
        self._working = working
        self.before = working.snapshot()
        self.kept = False
        self.taken_back = False

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.take_back()

    def keep(self) -> None:
        """Keep what was changed so far: it is no longer rolled back."""
        self.before = self._working.snapshot()
        self.kept = True

    def take_back(self) -> None:
        """Bring back what was there before, or at the last `keep`."""
        self.taken_back = True
        self._working.restore(self.before)
