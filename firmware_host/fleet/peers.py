"""What others taught, on disk beside the state: one file a device, written whole, and the devices that are revoked.

It is not part of the state, so no save writes it again and no undo takes it back; what it lacks is heard again.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from firmware_host.fleet.check import Expected, checked
from firmware_host.fleet.delta import Delta
from firmware_host.shared.errors import DeviceError
from firmware_host.shared.files import write_atomically

__all__ = ["DEVICE", "FOLDER", "Peers"]

FOLDER = "fleet"
REVOKED = "revoked"
DEVICE = re.compile("[0-9a-f]{12}")


class Peers:
    """The newest delta of each other device.

    Args:
        state: the folder of the device's state.
        expected: what deltas have to be like; others are left where they are, and do not count.
    """

    def __init__(self, state: Path, expected: Expected) -> None:
        self._folder, self._expected = state / FOLDER, expected
        self._held: dict[str, Delta] = {}
        self.revoked: frozenset[str] = frozenset()
        if self._folder.is_dir():
            with contextlib.suppress(OSError):
                lines = (self._folder / REVOKED).read_text(encoding="ascii", errors="replace").split()
                self.revoked = frozenset(line for line in lines if DEVICE.fullmatch(line))
            for file in sorted(self._folder.glob("*.delta")):
                with contextlib.suppress(OSError, DeviceError):  # what is damaged is heard again
                    delta = checked(Delta.from_bytes(file.read_bytes()), expected)
                    if delta.device == file.stem and delta.device not in self.revoked:
                        self._held[delta.device] = delta

    @property
    def deltas(self) -> dict[str, Delta]:
        """The deltas held, by device."""
        return dict(self._held)

    def get(self, device: str) -> Delta | None:
        """Return the delta of a device, None where none is held."""
        return self._held.get(device)

    def put(self, delta: Delta) -> bool:
        """Keep a checked delta where it is newer than what is held; return whether it is.

        Raises:
            DeviceError: the folder cannot be written.
        """
        held = self._held.get(delta.device)
        if delta.device in self.revoked or (held is not None and order(delta) <= order(held)):
            return False
        self._write(f"{delta.device}.delta", delta.to_bytes())
        self._held[delta.device] = delta
        return True

    def revoke(self, device: str) -> bool:
        """Let what a device taught count no more, from now on; return whether that is new."""
        if device in self.revoked:
            return False
        revoked = self.revoked | {device}
        self._write(REVOKED, "".join(f"{each}\n" for each in sorted(revoked)).encode())
        self.revoked = revoked
        self._held.pop(device, None)
        with contextlib.suppress(OSError):
            (self._folder / f"{device}.delta").unlink()
        return True

    def _write(self, name: str, content: bytes) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / name, content)
        except OSError as error:
            raise DeviceError(
                f"{self._folder / name} cannot be written ({error.strerror}): free space or give another --state"
            ) from error


def order(delta: Delta) -> tuple[int, str]:
    """Return what is larger for a newer delta of one device."""
    return delta.version, delta.digest
