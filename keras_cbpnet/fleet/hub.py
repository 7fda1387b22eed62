"""The middle of a group: it holds the newest delta of each device, and says to each what all others were taught.

Nothing here knows what carries the messages, nor time. What is refused leaves everything as it was, and is one line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from firmware_host.bundle import read_bundle
from firmware_host.fleet.base import check_sharing, expected_of
from firmware_host.fleet.check import Expected, checked
from firmware_host.fleet.delta import Delta
from firmware_host.fleet.node import SCHEMA_VERSION, Fields, check_schema, field, listed
from firmware_host.fleet.peers import DEVICE, Peers, order
from firmware_host.fleet.total import Total
from firmware_host.shared.errors import DeviceError
from keras_cbpnet.errors import UserError

__all__ = ["Hub", "Traffic", "size"]

LINE = 300  # letters of what a device says is wrong
UNPRINTED = re.compile(r"[^\x20-\x7e]")


class Traffic(NamedTuple):
    """Bytes that devices sent and were sent."""

    up: int
    down: int


class Hub:
    """A group's middle.

    Args:
        expected: what deltas have to be like.
        folder: where deltas are kept between two runs; None: nowhere.

    Attributes:
        refused: lines about what was refused, of the last round.
    """

    def __init__(self, expected: Expected, folder: Optional[Path] = None) -> None:
        self._expected = expected
        self._peers = Memory() if folder is None else Peers(folder, expected)
        self._told: dict[int, list[str]] = {}  # digests of what a node told, as it said last
        self._heard: dict[int, str] = {}  # device of each node that was heard in this round
        self._up, self._down = 0, 0
        self.refused: list[str] = []

    @classmethod
    def of_bundle(cls, bundle: Path, folder: Optional[Path] = None) -> Hub:
        """Return the hub of a bundle's devices; raises DeviceError for a damaged one, or where these cannot share."""
        opened = read_bundle(bundle)
        check_sharing(opened)
        return cls(expected_of(opened), folder)

    @property
    def deltas(self) -> dict[str, Delta]:
        """The newest delta of each device."""
        return self._peers.deltas

    @property
    def traffic(self) -> Traffic:
        """What was sent and received so far."""
        return Traffic(self._up, self._down)

    def revoke(self, device: str) -> bool:
        """Let what a device taught count no more; return whether that is new.

        Raises:
            UserError: it is not the number of a device.
        """
        if not DEVICE.fullmatch(device):
            raise UserError(f"device {device!r} is not the number of one: give 12 hexadecimal digits")
        return self._peers.revoke(device)

    def questions(self, nodes: Sequence[int]) -> Iterator[tuple[int, dict[str, object]]]:
        """Begin a round; yield for each node what it is asked, under the verb `tell`."""
        self._heard, self.refused = {}, []
        for node in nodes:
            message = {**self._greeting(), "known": self._told.get(node, [])}
            self._down += size(message)
            yield node, message

    def hear(self, answers: Mapping[int, Fields]) -> None:
        """Take in what nodes answered, all of a round together."""
        heard: dict[int, tuple[str, list[str], list[Delta]]] = {}
        for node, fields in answers.items():
            self._up += size(fields)
            try:
                heard[node] = self._read(fields)
            except DeviceError as error:
                self._refuse(node, error)
        times = Counter(device for device, _, _ in heard.values())
        for node, (device, digests, deltas) in heard.items():
            try:
                if times[device] > 1:
                    raise DeviceError(
                        f"{times[device]} nodes have the number {device}, as after a copy of a state's folder: export "
                        "the state of all but one and import it there, which gives each its own"
                    )
                self._put(device, deltas)
            except DeviceError as error:
                self._refuse(node, error)
                continue
            self._told[node], self._heard[node] = digests, device

    def sums(self) -> Iterator[tuple[int, dict[str, object]]]:
        """Yield for each node that was heard what it is told, under the verb `take`."""
        total = Total(self.deltas.values(), self._expected)
        for node, device in self._heard.items():
            try:
                others = total.without(device).to_bytes()
            except DeviceError as error:
                self._refuse(node, error)
                continue
            devices = max(total.devices, 1)
            message = {**self._greeting(), "device": device, "devices": devices, "others": others}
            self._down += size(message)
            yield node, message

    def taken(self, node: int, fields: Fields) -> Optional[str]:
        """Take in what a node said to that; return what came of it there, None where it was refused."""
        self._up += size(fields)
        try:
            self._check(fields)
            return UNPRINTED.sub("?", field(fields, "text", str))[:LINE]
        except DeviceError as error:
            self._refuse(node, error)
            return None

    def lost(self, node: int, reason: str) -> None:
        """Take notice of a node that did not answer, or whose app failed."""
        self._refuse(node, DeviceError(reason))

    def _greeting(self) -> dict[str, object]:
        expected = self._expected
        return {"schema": SCHEMA_VERSION, "backbone": expected.backbone, "features": len(expected.mean)}

    def _check(self, fields: Fields) -> None:
        check_schema(fields)
        if error := field(fields, "error", str):
            raise DeviceError(UNPRINTED.sub("?", error)[:LINE])

    def _read(self, fields: Fields) -> tuple[str, list[str], list[Delta]]:
        """Return a device's number, the digests of all that it tells, and the deltas that it sent."""
        self._check(fields)
        device, digests = field(fields, "device", str), listed(fields, "digests", str)
        if not DEVICE.fullmatch(device):
            raise DeviceError(f"its number is {device!a:.40}: 12 hexadecimal digits are one")
        deltas = [checked(Delta.from_bytes(each), self._expected) for each in listed(fields, "deltas", bytes)]
        for delta in deltas:
            if not DEVICE.fullmatch(delta.device):
                raise DeviceError(f"it tells of a device {delta.device!a:.40}: 12 hexadecimal digits are a number")
        return device, digests, deltas

    def _put(self, device: str, deltas: Sequence[Delta]) -> None:
        """Keep what is new; of a device's own lessons nothing may be older than what is known, or differ from it."""
        for delta in deltas:
            held = self.deltas.get(delta.device)
            if delta.device == device and held is not None and order(delta) != order(held):
                if delta.version == held.version:
                    raise DeviceError(f"two devices tell lessons as {device}: export and import the state of one")
                if delta.version < held.version:
                    raise DeviceError(
                        f"it tells version {delta.version} of device {device}, version {held.version} is known: it is "
                        "a copy or an older backup, export and import its state to give it a number of its own"
                    )
        for delta in deltas:
            self._peers.put(delta)

    def _refuse(self, node: int, error: DeviceError) -> None:
        self.refused.append(f"node {node}: {error}")


class Memory:
    """What `Peers` keeps, without files."""

    def __init__(self) -> None:
        self._held: dict[str, Delta] = {}
        self.revoked: frozenset[str] = frozenset()

    @property
    def deltas(self) -> dict[str, Delta]:
        """The deltas held, by device."""
        return self._held

    def put(self, delta: Delta) -> bool:
        """Keep a delta where it is newer than what is held; return whether it is."""
        held = self._held.get(delta.device)
        if delta.device in self.revoked or (held is not None and order(delta) <= order(held)):
            return False
        self._held[delta.device] = delta
        return True

    def revoke(self, device: str) -> bool:
        """Let what a device taught count no more; return whether that is new."""
        new = device not in self.revoked
        self.revoked |= {device}
        self._held.pop(device, None)
        return new


def size(fields: Fields) -> int:
    """Return the bytes of a message's values; what carries it adds its own."""
    return sum(map(_bytes, fields.values()))


def _bytes(value: object) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    return 8 if isinstance(value, int) else sum(map(_bytes, value))  # type: ignore[call-overload]
