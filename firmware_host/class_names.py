"""The classes of a device: what they are called, and how many images each was learned from."""

from __future__ import annotations

from firmware_host.bundle import DeviceError
from firmware_host.learning.arrange import forget, rename
from firmware_host.learning.lessons import Lessons
from firmware_host.learning.moved import forget_looks
from firmware_host.learning.working_state import WorkingState
from firmware_host.shared.names import known_name

__all__ = ["ClassNames"]


class ClassNames:
    """The part of a `Device` that deals with the names of its classes."""

    _working: WorkingState
    _lessons: Lessons

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes known, in slot order."""
        return self._working.classes

    @property
    def learned(self) -> dict[str, tuple[int, int]]:
        """How many images of each class came with the bundle, and how many were learned since."""
        count, since = self._working.statistics.count, self._working.camera.images
        return {name: (round(max(count[i] - since[i], 0.0)), round(since[i])) for i, name in enumerate(self.classes)}

    def add_class(self, name: str) -> int:
        """Give `name` the next spare slot, from which it can be predicted once images of it were learned; return it.

        Raises DeviceError when the name is taken or no slot is left.
        """
        if known_name(name, self.classes) in self.classes:
            raise DeviceError(f"class {name!r} is known already: choose another name")
        with self._lessons.change():
            self._working.name([name])
        return len(self.classes) - 1

    def check_class(self, name: str) -> None:
        """Raise DeviceError when `name` is neither known nor could be added."""
        self._working.named([name])

    def forget_class(self, name: str) -> None:
        """Forget a class and give its slot back; raises DeviceError when it is not known."""
        with self._lessons.change():
            forget(self._working, name)

    def forget_looks(self) -> None:
        """Forget what the classes look like, as after a sensor was moved: each is predicted once it is shown again."""
        with self._lessons.change():
            forget_looks(self._working)

    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name; raises DeviceError when `old` is not known or `new` is invalid or taken."""
        with self._lessons.change():
            rename(self._working, old, new)
