"""Who tells what to whom: retained messages on a broker, and no server.

Below the group's topic each device has three: `delta/ID`, what it was taught; `version/ID`, which version that is, for
all to listen to; and `revoked/ID`, where it is revoked. A device fetches a delta when it hears of a version that it
does not hold. It tells its own, and after a while those of others, where the broker does not know of them: so a broker
may forget everything. Messages may come twice, late or not at all; what counts is the set of newest deltas.

Nothing here knows MQTT, threads or clocks: see `Group` in group.py.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Optional

from firmware_host.fleet.check import Expected, checked
from firmware_host.fleet.delta import Delta
from firmware_host.fleet.peers import DEVICE, Peers, order
from firmware_host.fleet.protocol import Member, Traffic, Wire
from firmware_host.fleet.sign import Key
from firmware_host.shared.errors import DeviceError

__all__ = ["Exchange"]

SETTLE_S = 5.0  # after a connection, until all that is retained was heard
RELAY_S = (30.0, 120.0)  # until another device's delta is told where the broker does not know of it
FETCH_S = 30.0  # until a delta is asked for again
SAID = 1000  # refusals that are remembered, so that each is said once


class Exchange:
    """One device's part; every method is called from one thread.

    Args:
        member: the device.
        peers: what others taught.
        expected: what deltas have to be like.
        key: the group's.
        topic: what the group's topics begin with.
        wire: the connection.
        say: is given a line and whether it is good news.
        every_s: seconds between two merges, at least.
        now: seconds of a clock that does not jump.
        rng: of the delays after which others' deltas are told.
    """

    def __init__(
        self,
        member: Member,
        peers: Peers,
        expected: Expected,
        key: Key,
        topic: str,
        wire: Wire,
        say: Callable[[bool, str], None],
        every_s: float,
        now: float,
        rng: Optional[random.Random] = None,
    ) -> None:
        self._member, self._peers, self._expected, self._key = member, peers, expected, key
        self._topic, self._wire, self._say, self._every_s = topic, wire, say, every_s
        self._rng = rng or random.Random()
        self._own: Optional[Delta] = None
        self._announced: dict[str, tuple[int, str]] = {}  # what the broker knows of
        self._asked: dict[str, float] = {}  # when a delta was asked for
        self._heard_revoked: set[str] = set()  # and told
        self._connected_at, self._relay_at = math.inf, math.inf
        self._merged_at, self._dirty, self._took = -math.inf, True, False
        self._bad: dict[str, tuple[int, str]] = {}  # versions whose delta was refused: they are not asked for again
        self._said: dict[str, None] = {}
        self._begun, self._sent, self._received = now, 0, 0
        self.refused = 0

    @property
    def subscribed(self) -> list[str]:
        """The topics to listen to."""
        return [f"{self._topic}/version/+", f"{self._topic}/revoked/+"]

    def traffic(self, now: float) -> Traffic:
        """Return what was sent and received."""
        return Traffic(self._sent, self._received, now - self._begun)

    @property
    def devices(self) -> int:
        """How many devices' lessons are known, this one's included."""
        return len(self._peers.deltas) + (self._own is not None)

    def connected(self, now: float) -> None:
        """Take notice of a new connection: what the broker retains is heard again."""
        self._announced.clear()
        self._asked.clear()
        self._heard_revoked.clear()
        self._connected_at, self._relay_at = now, now + self._rng.uniform(*RELAY_S)

    def received(self, topic: str, payload: bytes, now: float) -> None:
        """Take a message.

        Raises:
            DeviceError: another device uses this one's number.
        """
        self._received += len(payload)
        kind, _, device = topic[len(self._topic) + 1 :].rpartition("/")
        if kind not in ("delta", "version", "revoked") or not DEVICE.fullmatch(device) or not payload:
            return
        try:
            content = self._key.opened(kind, device, payload)
            if kind == "delta":
                self._asked.pop(device, None)
                self._delta(device, content)
            elif kind == "version":
                self._version(device, content, now)
            else:
                self._heard_revoked.add(device)
                self._revoked(device)
        except OneNumberError as error:
            raise DeviceError(str(error)) from None
        except DeviceError as error:
            if kind == "delta":
                self._bad[device] = self._announced.get(device, (0, ""))
            self._refuse(f"{kind} of device {device} is refused: {error}")

    def revoke(self, device: str) -> None:
        """Let what a device taught count no more, in the whole group.

        Raises:
            DeviceError: it is not the number of a device, or the peers' folder cannot be written.
        """
        if not DEVICE.fullmatch(device):
            raise DeviceError(f"device {device!r} is not the number of one: give 12 hexadecimal digits")
        self._revoked(device)

    def tick(self, now: float) -> None:
        """Do what is due: merge, and tell what the broker does not know.

        Raises:
            DeviceError: at the first merge, which cannot be saved.
        """
        due = now - self._merged_at >= self._every_s
        settled = self._wire.there and now - self._connected_at >= SETTLE_S
        if due and (self._dirty or self._member.changed) and (settled or not self._took):
            self._merged_at, self._dirty = now, False
            self._take()
        if settled:
            self._tell(now)

    def _take(self) -> None:
        """Merge; what cannot be, or not be saved, is said and tried again, but for the first time."""
        try:
            taken = self._member.take(self._peers.deltas)
        except DeviceError as error:
            if not self._took:
                raise
            self._dirty = True
            self._refuse(f"what was heard is not taken over: {error}")
            return
        self._own, self._took = taken.own, True
        if taken.text is not None:
            self._say(True, taken.text)

    # --- what is heard ----------------------------------------------------------------------------------------------
    def _version(self, device: str, content: bytes, now: float) -> None:
        try:
            said = json.loads(content.decode())
            found = int(said["version"]), str(said["digest"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DeviceError("it does not say a version") from None
        if device in self._peers.revoked:
            return
        self._announced[device] = found
        if device == self._member.device:
            self._check_own(found)
            return
        held = self._peers.get(device)
        if held is not None and held.version == found[0] and held.digest != found[1]:
            self._refuse(f"two devices tell lessons as {device}: give one of them --new-id")
        if held is None or found > order(held):
            self._ask(device, now)

    def _delta(self, device: str, content: bytes) -> None:
        delta = checked(Delta.from_bytes(content), self._expected)
        if delta.device != device:
            raise DeviceError(f"it says that it is of device {delta.device}")
        if device == self._member.device:
            self._check_own(order(delta))
        elif self._peers.put(delta):
            self._dirty = True
        if self._announced.get(device, (0, "")) > order(delta):  # what is announced is not there
            self._bad[device] = self._announced[device]

    def _check_own(self, found: tuple[int, str]) -> None:
        """Raise OneNumberError where somebody else tells lessons under this device's number."""
        own = (0, "") if self._own is None else order(self._own)
        if found[0] > own[0] or (found[0] == own[0] and found[1] != own[1]):
            raise OneNumberError(
                f"another device uses the number of this one, {self._member.device}, as after a copy of its state or "
                "an older backup: give one of them another with --new-id"
            )

    def _revoked(self, device: str) -> None:
        if self._peers.revoke(device):
            self._dirty = True
            own = device == self._member.device
            self._say(
                False,
                f"device {device} is revoked"
                + (": this one; the others take no lessons of it any more" if own else ""),
            )

    def _ask(self, device: str, now: float) -> None:
        known = self._bad.get(device) == self._announced.get(device)
        if not known and now - self._asked.get(device, -math.inf) >= FETCH_S:
            self._asked[device] = now
            self._wire.fetch(f"{self._topic}/delta/{device}")

    def _refuse(self, text: str) -> None:
        self.refused += 1
        if text not in self._said:
            self._said[text] = None
            while len(self._said) > SAID:
                del self._said[next(iter(self._said))]
            self._say(False, text)

    # --- what is told -----------------------------------------------------------------------------------------------
    def _tell(self, now: float) -> None:
        for device in sorted(self._peers.revoked - self._heard_revoked):
            self._heard_revoked.add(device)
            self._publish("revoked", device, b"revoked")
        if self._own is not None and self._member.device not in self._peers.revoked:
            self._tell_delta(self._own)
        for device, delta in self._peers.deltas.items():
            if now >= self._relay_at:
                self._tell_delta(delta)
            if self._announced.get(device, (0, "")) > order(delta):
                self._ask(device, now)
        for device in self._announced:
            if device != self._member.device and self._peers.get(device) is None:
                self._ask(device, now)

    def _tell_delta(self, delta: Delta) -> None:
        if self._announced.get(delta.device, (0, "")) >= order(delta):
            return
        said = {"version": delta.version, "digest": delta.digest}
        self._publish("delta", delta.device, delta.to_bytes())
        self._publish("version", delta.device, json.dumps(said, sort_keys=True).encode())
        self._announced[delta.device] = order(delta)

    def _publish(self, kind: str, device: str, content: bytes) -> None:
        payload = self._key.signed(kind, device, content)
        self._sent += len(payload)
        self._wire.publish(f"{self._topic}/{kind}/{device}", payload)


class OneNumberError(DeviceError):
    """Two devices have one number."""
