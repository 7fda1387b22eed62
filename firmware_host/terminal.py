"""What the command line shows on stderr while it works."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["ProgressLine", "without_runtime_chatter"]

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


@contextmanager
def without_runtime_chatter(start: bytes = b"INFO:") -> Iterator[None]:
    """Hold back the lines with this start that C++ writes to stderr, as an interpreter does on opening, no others."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            captured.seek(0)
            for line in captured.read().splitlines(keepends=True):
                if line.strip() and not line.startswith(start):
                    os.write(2, line)
