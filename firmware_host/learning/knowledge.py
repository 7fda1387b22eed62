"""What a device knows, to look at and to carry away.

Dimensions: h hidden units.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.fleet.moved import imported
from firmware_host.fleet.own import MIN_IMAGES
from firmware_host.fleet.sharing import Sharing
from firmware_host.state import StateFolder, state_from_bytes, to_bytes

if TYPE_CHECKING:
    from firmware_host.learning.lessons import Lessons
    from firmware_host.learning.working_state import WorkingState

__all__ = ["Knowledge"]

SAMPLES = 128


class Knowledge:
    """What a device knows.

    Args:
        working: the same, in use.
        folder: where it is kept.
        lessons: how it is changed.
    """

    def __init__(self, working: WorkingState, folder: StateFolder, lessons: Lessons) -> None:
        self._working, self._folder, self._lessons = working, folder, lessons

    def classes(self) -> list[dict[str, Any]]:
        """Return name, images (how many were learned) and own (whether this device added it) of every class."""
        working = self._working
        count = working.statistics.count
        return [
            {"name": name, "images": int(count[slot]), "own": name not in working.bundle.classes}
            for slot, name in enumerate(working.classes)
        ]

    def units(self) -> dict[str, list[float]]:
        """Return utility [h] and age [h], in training steps since the last reset, of the hidden units."""
        state = self._working.head.get_state()
        return {"utility": state["utility"].tolist(), "age": state["age"].tolist()}

    def accuracy(self, samples: int = SAMPLES) -> float | None:
        """Return the accuracy (0..1) on features drawn from the class statistics, every class equally often.

        It says how much of what was learned is still there. The samples are the same for the same statistics; nothing
        else is changed by them. None where no class has an image yet.
        """
        statistics = self._working.statistics
        if not len(statistics.seen):
            return None
        feature, slot = statistics.sample(np.random.default_rng(0), samples)  # (n, d), (n,)
        found = np.argmax(self._working.judge_all(feature)[0], axis=1)  # (n,)
        return float(np.mean(found == slot))

    def groups(self) -> list[dict[str, Any]]:
        """Return group (its number), images and offered (worth a name) of every group of unknown images alike."""
        return self._working.unknowns.records()

    @property
    def tells_unknown(self) -> bool:
        """Whether the device can tell images of no class it knows."""
        return self._working.mixture is not None

    @property
    def images_kept(self) -> int:
        """How many images are kept for replay, as features."""
        return 0 if self._working.buffer is None else len(self._working.buffer.label)

    @property
    def saved_file(self) -> Path | None:
        """The file with the newest save; None where nothing was saved yet."""
        return self._folder.newest_file

    def reserve(self) -> None:
        """Let no other process write into the state folder from now on; raises DeviceError when one does."""
        self._lessons.lock()

    def sharing(self, min_images: int = MIN_IMAGES, noise: float = 0.0, new_id: bool = False) -> Sharing:
        """Return the device's part in a group of devices that share what they learn; arguments as of `Sharing`."""
        return Sharing(self._working, self._folder, self._lessons, min_images, noise, new_id)

    def export(self) -> bytes:
        """Return all of it as the bytes of a state file, as `cbpnet state BUNDLE export FILE` writes it."""
        return to_bytes(self._working.settled(), self._folder.bundle, self._folder.generation)

    def restore(self, content: bytes) -> None:
        """Replace all of it by what the bytes of a state file hold; nothing is saved yet, and `undo` takes it back.

        Raises:
            DeviceError: they are damaged or of another head, or the state folder is in use.
        """
        bundle = self._folder.bundle
        snapshot = imported(bundle, *state_from_bytes(content, bundle))
        try:
            with self._lessons.change():
                self._working.restore(snapshot.completed(self._working.head.get_state(), bundle.bank()))
                if len(self._working.classes) > bundle.slots or not all(
                    np.isfinite(tensor).all() for tensor in self._working.head.get_state().values()
                ):
                    raise ValueError("names or numbers out of range")
                self.accuracy(1)  # it can be used
        except DeviceError:
            raise
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise DeviceError(f"the state does not fit this device ({error}): give a file that was exported") from error
