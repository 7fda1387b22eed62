"""A device's part in a group: what it tells the others, and what it takes over from them.

Every step is a transaction of its own and saved before anything is told: a device that is killed has told nothing that
it does not know when it comes back. `undo` takes the device's last lesson back as ever, and what it then tells has a
higher version.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Optional

from firmware_host.fleet.base import adopted, backbone_of, base_of, check_sharing, expected_of, own_of
from firmware_host.fleet.check import checked
from firmware_host.fleet.delta import Delta
from firmware_host.fleet.member import take_over
from firmware_host.fleet.merge import dead_before, fingerprint, merged
from firmware_host.fleet.own import MIN_IMAGES, Own, device_id
from firmware_host.fleet.peers import Peers
from firmware_host.fleet.protocol import Taken
from firmware_host.shared.errors import DeviceError

if TYPE_CHECKING:
    from firmware_host.learning.lessons import Lessons
    from firmware_host.learning.working_state import WorkingState
    from firmware_host.state import StateFolder

__all__ = ["Sharing"]

logger = logging.getLogger(__name__)


class Sharing:
    """A device's part in a group. From now on no other process can write into its state folder.

    Args:
        working: what the device knows.
        folder: where it is kept.
        lessons: how it is changed.
        min_images: of a class, from which others are told of it; 1 to 16.
        noise: see `Own.delta`.
        new_id: whether the device gets a new number; what it was taught so far stays that of the old one.

    Attributes:
        peers: what others taught.

    Raises:
        DeviceError: devices with this bundle cannot share, a number is out of range, or another process writes into the
            state folder.
    """

    def __init__(
        self,
        working: WorkingState,
        folder: StateFolder,
        lessons: Lessons,
        min_images: int = MIN_IMAGES,
        noise: float = 0.0,
        new_id: bool = False,
    ) -> None:
        bundle = folder.bundle
        check_sharing(bundle)
        if working.own is not None:
            working.own.check_place()
        lessons.lock()
        self._working, self._folder, self._lessons = working, folder, lessons
        self._min_images, self._noise = min_images, noise
        self._start = lessons.start()
        self._base, self._backbone = base_of(bundle, self._start), backbone_of(bundle)
        self.expected = expected_of(bundle)
        self.peers = Peers(folder.path, self.expected)
        if new_id:
            with lessons.take_over():
                working.restore(adopted(working.snapshot(), self._base, self._backbone, folder.generation, min_images))
        saved = working.own is not None and not new_id  # its version is on disk
        self._last = self._own()
        self._last.delta(working.device, self._backbone, min_images, noise)  # so that bad options are refused now
        self._saved = self._last.version if saved else -1  # the version that is on disk
        self._taken: tuple[Optional[Own], int] = None, 0  # what was taken over last
        for device, content in self._last.peers.items():
            try:
                delta = checked(Delta.from_bytes(content), self.expected)
            except DeviceError as error:
                logger.warning("what device %s taught, which an imported state brought, is refused: %s", device, error)
                continue
            self.peers.put(delta)

    @property
    def device(self) -> str:
        """The device's number."""
        return device_id(self._working.device)

    @property
    def brought(self) -> dict[str, Delta]:
        """What others taught, as it lies in files, by their numbers."""
        return self.peers.deltas

    @property
    def changed(self) -> bool:
        """Whether the device was taught something, or a lesson was taken back, since the last `take`."""
        own = self._own()
        return (own, own.lessons) != self._taken

    def tell(self) -> Optional[Delta]:
        """Return what others are told, None where there is nothing to tell; it is saved first, and nothing is merged.

        Raises:
            DeviceError: it cannot be saved; nothing is changed then.
        """
        working = self._working
        with self._lessons.take_over():
            own = self._own()
            told = own.tell(working.device, self._backbone, self._min_images, self._noise)
            self._save(own)
        return told

    def take(self, deltas: dict[str, Delta], devices: Optional[int] = None) -> Taken:
        """Make what the device knows of others' deltas, by their numbers, and its own; save it, return its own.

        Its own classes of few images stay known to it, and to it alone. `devices`: how many taught all of that; None:
        one of each delta.

        Raises:
            DeviceError: it cannot be saved, or not be trained on; nothing is changed then.
        """
        working, text = self._working, None
        with self._lessons.take_over():
            own = self._own()
            others = [delta for device, delta in deltas.items() if device != self.device]
            own.bury(dead_before(others))
            told = own.tell(working.device, self._backbone, self._min_images, self._noise)
            every = list(others)
            if own.parts or own.forgotten or own.version:
                every.append(own.delta(working.device, self._backbone))
            if own.fingerprint != fingerprint(every) and (others or own.fingerprint):
                found = merged(self._base, every, working.bundle.slots, tuple(own.parts))
                steps = take_over(working, self._start, self._base, found)
                text = _line(every, devices, found.classes, found.left_out, steps)
            own = self._own()
            own.peers = {}  # they are in files by now
            self._save(own, text is not None)
        self._taken = own, own.lessons
        return Taken(told, text)

    def _save(self, own: Own, anyway: bool = False) -> None:
        if anyway or own.version != self._saved:
            self._lessons.save()
            self._saved = own.version

    def _own(self) -> Own:
        """Return what the device was taught; it is kept apart from now on."""
        working = self._working
        if working.own is None:
            # What a file of the last save is told as may be known by others: there may be lessons since.
            own = own_of(working.snapshot(), self._base, self._folder.generation + 1)
            last = getattr(self, "_last", None)
            if last is not None and last.version >= own.version:  # a lesson from before was taken back
                own.version, own.told = last.version, last.told
            working.own = own
        self._last = working.own
        return working.own


def _line(
    deltas: list[Delta], devices: Optional[int], classes: tuple[str, ...], left_out: tuple[str, ...], steps: int
) -> Optional[str]:
    taught = sum(delta.images for delta in deltas)
    devices = sum(bool(delta.classes) for delta in deltas) if devices is None else devices
    text = f"{taught:,.0f} images that {devices} devices were taught, {len(classes)} classes, {steps} training steps"
    if left_out:
        text += f"; no slot is left for {', '.join(left_out)}: convert the run again with more --slots"
    return text
