"""What a device in a house says: one line each, for the broker and for whoever started it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from firmware_host.bundle import DeviceError
from firmware_host.serve.refusals import RefusedError
from firmware_host.shared.streams import one_line

__all__ = ["REFUSALS", "Line", "Say", "line", "refusal"]

REFUSALS = (DeviceError, RefusedError, OSError)
SHOWN = 400  # characters of a line


class Line(NamedTuple):
    """One line.

    Attributes:
        what: a command's name, or what else it is about.
        ok: whether it is good news.
        text: the line.
    """

    what: str
    ok: bool
    text: str

    def record(self) -> dict[str, Any]:
        """Return it as it is published."""
        return {"command": self.what, "ok": self.ok, "text": self.text}


Say = Callable[[Line], None]


def line(what: str, ok: bool, text: str) -> Line:
    """Return one printable line, whatever a file, a broker or Frigate put into the text."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in one_line(text))
    return Line(what, ok, shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}...")


def refusal(what: str, error: Exception) -> Line:
    """Return the line about one of the REFUSALS."""
    return line(what, False, str(error))
