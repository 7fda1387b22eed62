"""What every kind of camera gives: its frames one after the other, each decoded only where it is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, Optional

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.process_memory import check_fits

__all__ = ["SILENT_S", "DamagedError", "Kind", "Take", "Takes", "check_frame", "shown", "ticks"]

SILENT_S = 10.0  # a camera that gives nothing for so long is lost
APART_S = 0.1  # between two pictures that are asked for one by one
Take = Callable[[], Array]  # decodes one frame: uint8 RGB [h, w, 3]; raises DamagedError where only this one is bad
Takes = Generator[Take, None, None]


class Kind(NamedTuple):
    """One kind of source.

    Attributes:
        form: how the user names one, for help and messages.
        what: what that is, for help.
        pattern: regular expression of the whole name.
        open: takes the name and the limit of the process in MiB (None: none); returns one `Take` a frame, which is
            good until the next one is asked for. Raises DeviceError where it does not open, and later where it is
            lost; closing the iterator closes the camera.
        ends: whether it comes to an end by itself, as a file does.
    """

    form: str
    what: str
    pattern: str
    open: Callable[[str, Optional[float]], Takes]
    ends: bool = False


class DamagedError(DeviceError):
    """A frame that cannot be used; the next one may be good."""


def shown(source: str) -> str:
    """Return a source as it may be printed and logged: of an address neither user and password nor the query."""
    kind, colon, place = source.partition(":")
    if kind == "video":  # a path may have such signs
        return source
    slashes = place[: len(place) - len(place.lstrip("/"))]
    _, at, rest = place[len(slashes) :].rpartition("@")  # however wrong the address is written
    rest, question, _ = rest.partition("?")
    return f"{kind}{colon}{slashes}{'***@' if at else ''}{rest}{'?***' if question else ''}"


def check_frame(name: str, width: int, height: int, bytes_a_pixel: int, max_memory_mb: Optional[float]) -> None:
    """Raise DeviceError where a frame of this size would take the process over its limit."""
    if max_memory_mb is not None:
        check_fits(f"{name} ({width} x {height} pixels)", bytes_a_pixel * width * height, max_memory_mb)


def ticks() -> Iterator[None]:
    """Yield at most once every `APART_S`."""
    due = 0.0
    while True:
        time.sleep(max(due - time.monotonic(), 0.0))
        due = time.monotonic() + APART_S
        yield
