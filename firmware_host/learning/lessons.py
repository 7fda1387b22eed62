"""The changes to what a device knows: each happens as a whole or not at all, and the last one can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Optional

from firmware_host.bundle import DeviceError
from firmware_host.learning.transaction import Transaction
from firmware_host.learning.working_state import WorkingState
from firmware_host.state import Snapshot, StateFolder

__all__ = ["Lessons"]


class Earlier(NamedTuple):
    """What a device knew before its last lesson.

    Attributes:
        snapshot: that, where this process saw it.
        save: number of the last save of what was known then or shortly before; 0: nothing of it was saved.
    """

    snapshot: Optional[Snapshot]
    save: int


class Lessons:
    """The changes of one device; every change goes through `change`.

    Args:
        working: what the device knows.
        folder: where that is kept; it has been read.
        start: gives what the bundle itself knows; called when a lesson of another process is taken back.
    """

    def __init__(self, working: WorkingState, folder: StateFolder, start: Callable[[], Snapshot]) -> None:
        self._working, self._folder, self._start = working, folder, start
        self._save = folder.generation  # number of the last save of what is known now or shortly before
        self._earlier = None if folder.before is None else Earlier(None, folder.before)
        self._together = False  # whether the changes made now are one lesson
        self._begun = False  # whether the first of these was made

    def check_free(self) -> None:
        """Raise DeviceError when another process writes into the state folder."""
        self._folder.check_free()

    def lock(self) -> None:
        """Lock the state folder, which is made if need be; raises DeviceError as `StateFolder.lock`."""
        self._folder.lock()

    def start(self) -> Snapshot:
        """Return what the bundle itself knows."""
        return self._start()

    @contextmanager
    def take_over(self) -> Iterator[Transaction]:
        """Give a context as `change`, for what others taught: `undo` takes the lesson before it back, not this.

        Raises:
            DeviceError: another process writes into the state folder.
        """
        self._folder.check_free()
        with Transaction(self._working) as transaction:
            yield transaction

    @contextmanager
    def change(self) -> Iterator[Transaction]:
        """Give a context in which `working` may change; an exception, an interrupt too, takes the change back.

        Raises:
            DeviceError: another process writes into the state folder.
        """
        self._folder.check_free()
        last, transaction = self._earlier, Transaction(self._working)
        if not self._begun:
            self._earlier = Earlier(transaction.before, self._save)
        try:
            with transaction:
                yield transaction
        finally:
            happened = transaction.kept or not transaction.taken_back
            if not happened:
                self._earlier = last
            self._begun = self._begun or (self._together and happened)

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Give a context whose changes are taken back together."""
        self._together, self._begun = True, False
        try:
            yield
        finally:
            self._together = self._begun = False

    def save(self) -> Path:
        """Write what is known, and from which save on it was learned last; return the file's path."""
        before = None if self._earlier is None else self._earlier.save
        path = self._folder.write(self._working.settled(), before)
        self._save = self._folder.generation
        return path

    def undo(self) -> None:
        """Bring back what was known before the last lesson; nothing is saved yet.

        Raises:
            DeviceError: there is no such lesson, its save is lost, or another process writes into the state folder.
        """
        self._folder.check_free()
        if self._earlier is None:
            raise DeviceError(
                f"nothing to undo in {self._folder.path}: no lesson was learned there, or it was taken back already"
            )
        self._working.restore(self._earlier.snapshot or self._saved(self._earlier.save))
        self._save, self._earlier = self._earlier.save, None

    def _saved(self, save: int) -> Snapshot:
        start = replace(self._start(), device=self._working.device)  # it is the same device still
        learned = self._folder.earlier(save) if save else start
        return learned.completed(start.head, self._working.bundle.bank())
