"""How long a device has been running, by a clock that nobody sets.

The time of day jumps: a board without a battery starts in 1970 or at its last shutdown, until the network tells it.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Running", "boot", "running_seconds"]

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESS = f"process {uuid.uuid4()}"


def boot() -> str:
    """Return a name of this start of the system; of this process where the system has none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return _PROCESS


def running_seconds() -> float:
    """Return the seconds since the system started (Linux; elsewhere since some moment), sleep included."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True)
class Running:
    """Bytes written while a device was running, and for how long.

    `boot` and `at` say when that was last counted. What passes while the system is off, and from the last save until
    then, is not counted.
    """

    bytes: int = 0
    seconds: float = 0.0
    boot: str = ""
    at: float = 0.0

    def plus(self, size: int, now: float, boot_now: str) -> Running:
        """Return the same with `size` bytes more, written now."""
        return Running(self.bytes + size, self._until(now, boot_now), boot_now, now)

    def per_hour(self, now: float, boot_now: str) -> float:
        """Return the bytes written per hour; less than an hour counts as one."""
        return self.bytes / max(self._until(now, boot_now) / 3600.0, 1.0)

    def numbers(self) -> list[float]:
        """Return it as a state file holds it, beside `boot`."""
        return [self.bytes, self.seconds, self.at]

    def _until(self, now: float, boot_now: str) -> float:
        if not self.boot:
            return 0.0
        if boot_now == self.boot:
            return self.seconds + max(now - self.at, 0.0)
        return self.seconds + (0.0 if boot_now == _PROCESS else now)  # it has been running since that start
