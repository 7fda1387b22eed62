"""What the command line shows on stderr while it works."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["ProgressLine", "ask", "without_runtime_chatter"]

REDRAW_S = 0.1


class ProgressLine:
    """Shows how far a piece of work is: one line redrawn on a terminal, a plain line per finished piece elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._open = False
        self._drawn = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say that `done` of `total` of `what` are done."""
        finished = done >= total
        if self._terminal and (finished or time.monotonic() - self._drawn >= REDRAW_S):
            bar = "#" * (20 * done // total)
            self._write(f"\r{what} [{bar:<20}] {done}/{total}", open_line=not finished)
            self._drawn = time.monotonic()
        elif finished:
            self._write(f"{what} {done}/{total}", open_line=False)

    def close(self) -> None:
        """End a line that is still open."""
        if self._open:
            self._write("", open_line=False)

    def _write(self, text: str, open_line: bool) -> None:
        self._stream.write(text if open_line else text + "\n")
        self._stream.flush()
        self._open = open_line


def ask(question: str) -> bool:
    """Ask the user at the terminal; only y or yes counts as yes."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def without_runtime_chatter(start: bytes = b"INFO:") -> Iterator[None]:
    """Hold back the lines with this start that C++ writes to stderr, as an interpreter does on opening, no others.

    Where there is no room to hold them, or no stderr, nothing is held back.
    """
    _flush(sys.stderr)
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    captured = _room()
    if captured is None:
        os.close(kept)
        yield
        return
    os.dup2(captured, 2)
    try:
        yield
    finally:
        _flush(sys.stderr)
        os.dup2(kept, 2)
        os.close(kept)
        with os.fdopen(captured, "rb") as file:
            file.seek(0)
            _write_lines(line for line in file if line.strip() and not line.startswith(start))


def _room() -> int | None:
    """Return a file without a name: in memory where the system can (Linux), for a card may be full or read-only."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # an old kernel
            return os.memfd_create("stderr")
    try:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    except OSError:
        return None


def _write_lines(lines: Iterable[bytes]) -> None:
    try:
        for line in lines:
            os.write(2, line)
    except OSError:  # nobody reads them
        return


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        stream.flush()
