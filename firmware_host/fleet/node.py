"""A device's part where a server merges: two messages a round, which any transport may carry.

`tell`: the server says which of the device's deltas it holds, and the device answers with those that it does not.
`take`: the server says what all other devices were taught, as one delta, and the device makes what it knows of that and
its own, as `cbpnet fleet` does. A message is a flat table of texts, whole numbers, bytes and lists of these. What is
wrong is answered in one line under `error`, and then nothing was changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Optional, Protocol, TypeVar, Union

from firmware_host.fleet.check import Expected, checked
from firmware_host.fleet.delta import Delta
from firmware_host.fleet.protocol import Taken
from firmware_host.fleet.total import others_of
from firmware_host.shared.errors import DeviceError

__all__ = ["MOST_DEVICES", "SCHEMA_VERSION", "VERBS", "Fields", "Part", "answer", "check_schema", "field", "listed"]

SCHEMA_VERSION = 1
MOST_DEVICES = 1_000_000
UNPRINTED = re.compile(r"[^\x20-\x7e]")
Value = Union[str, int, bytes, list[str], list[bytes]]
Fields = Mapping[str, Any]
T = TypeVar("T", str, int, bytes)


class Part(Protocol):
    """A device in a group; `Sharing` is one."""

    expected: Expected

    @property
    def device(self) -> str:
        """Its number."""

    @property
    def brought(self) -> dict[str, Delta]:
        """What others taught, where an imported state brought it, by their numbers."""

    def tell(self) -> Optional[Delta]:
        """Return what others are told of it."""

    def take(self, deltas: dict[str, Delta], devices: Optional[int] = None) -> Taken:
        """Make what it knows of these and its own."""


def field(fields: Fields, name: str, kind: type[T]) -> T:
    """Return a field of a message; raises DeviceError where it is missing or of another type."""
    value = fields.get(name)
    if type(value) is not kind:
        raise DeviceError(f"the message has no {name}: use one version of keras-cbpnet in a group")
    return value


def listed(fields: Fields, name: str, kind: type[T]) -> list[T]:
    """Return a list in a message; raises DeviceError where it is missing or holds something else."""
    values = fields.get(name)
    if values is None or isinstance(values, (str, bytes, int)) or any(type(value) is not kind for value in values):
        raise DeviceError(f"the message has no {name}: use one version of keras-cbpnet in a group")
    return list(values)


def check_schema(fields: Fields) -> None:
    """Raise DeviceError for a message of another version of the format."""
    version = field(fields, "schema", int)
    if version != SCHEMA_VERSION:
        raise DeviceError(
            f"a message of schema version {version}, this keras-cbpnet reads {SCHEMA_VERSION}: install the matching "
            "keras-cbpnet"
        )


def tell(part: Part, request: Fields) -> dict[str, Value]:
    """Return a device's deltas that the server does not hold: its own, and what an imported state brought of others.

    Raises:
        DeviceError: the server has another backbone, or what is told cannot be saved.
    """
    _check_server(part.expected, request)
    known, own = set(listed(request, "known", str)), part.tell()
    held = [*part.brought.values(), *([] if own is None else [own])]
    new = [delta.to_bytes() for delta in held if delta.digest not in known]
    return {"device": part.device, "digests": [delta.digest for delta in held], "deltas": new}


def take(part: Part, request: Fields) -> dict[str, Value]:
    """Take over what all others were taught; the answer's text says what came of it, empty where nothing is new.

    Raises:
        DeviceError: the server has another backbone, the sum is damaged or not for this device, or cannot be saved.
    """
    _check_server(part.expected, request)
    device, devices = field(request, "device", str), field(request, "devices", int)
    if device != part.device:
        raise DeviceError(f"the message is for device {device!a:.40}, this is {part.device}")
    if not 1 <= devices <= MOST_DEVICES:
        raise DeviceError(f"the message is of {devices} devices: 1 to {MOST_DEVICES} are possible")
    others = checked(Delta.from_bytes(field(request, "others", bytes)), part.expected, devices)
    if others.device != others_of(device):
        raise DeviceError(f"the sum is that of {others.device!a:.40}, not of all devices but this one")
    told = others.classes or others.forgotten or others.degrees
    taken = part.take({others.device: others} if told else {}, devices)
    return {"device": device, "text": taken.text or ""}


VERBS: Mapping[str, Callable[[Part, Fields], dict[str, Value]]] = {"tell": tell, "take": take}


def answer(verb: str, part: Callable[[], Part], request: Fields) -> dict[str, Value]:
    """Return the answer of a device, `part()`, to a message; where that is refused, the reason under `error`."""
    try:
        return {"schema": SCHEMA_VERSION, "error": "", **VERBS[verb](part(), request)}
    except DeviceError as error:
        return {"schema": SCHEMA_VERSION, "error": UNPRINTED.sub("?", " ".join(str(error).split()))}


def _check_server(expected: Expected, request: Fields) -> None:
    check_schema(request)
    features, backbone = field(request, "features", int), field(request, "backbone", str)
    if features != len(expected.mean):
        raise DeviceError(
            f"the server's features have {features} values, those of this bundle {len(expected.mean)}: use one bundle "
            "in a group"
        )
    if backbone != expected.backbone:
        raise DeviceError(
            f"the server has another backbone ({backbone[:12]}, this bundle has {expected.backbone[:12]}): use one "
            "bundle in a group"
        )
