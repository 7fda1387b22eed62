"""What an exchange needs: a device that takes part, and a connection to a broker; and what it counts."""

from __future__ import annotations

from typing import NamedTuple, Optional, Protocol

from firmware_host.fleet.delta import Delta

__all__ = ["Member", "Taken", "Traffic", "Wire"]

HOUR_S = 3600.0


class Taken(NamedTuple):
    """What came of a merge: the device's own delta, None where it has nothing to tell; a line, None where none is."""

    own: Optional[Delta]
    text: Optional[str]


class Member(Protocol):
    """A device that takes part."""

    @property
    def device(self) -> str:
        """Its number."""

    @property
    def changed(self) -> bool:
        """Whether it was taught something since `take`."""

    def take(self, deltas: dict[str, Delta]) -> Taken:
        """Make what it knows of these and its own, save it, and return its own; raises DeviceError where it cannot."""


class Wire(Protocol):
    """A connection to a broker."""

    @property
    def there(self) -> bool:
        """Whether it is connected."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Tell something that the broker retains."""

    def fetch(self, topic: str) -> None:
        """Ask for what is retained there, once."""


class Traffic(NamedTuple):
    """Bytes of messages sent and received, and for how many seconds that was counted."""

    sent: int
    received: int
    seconds: float

    @property
    def per_hour(self) -> float:
        """Bytes an hour; less than an hour counts as one."""
        return (self.sent + self.received) / max(self.seconds / HOUR_S, 1.0)
