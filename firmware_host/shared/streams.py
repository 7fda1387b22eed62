"""Standard streams that hold whatever happens to them: closed from the start, read by nobody, of a narrow encoding."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

__all__ = ["is_terminal", "nobody_reads", "one_line", "open_streams", "printable", "text_stream"]

GONE = (errno.EPIPE, errno.EBADF, errno.ECONNRESET)  # nobody reads what is written there any more
PLAIN = {"±": "+/-", "×": "x", "–": "-", "—": "-", "…": "...", "’": "'", "·": "*"}  # what we print beside names
ERRORS = "cbpnet-plain"


class _Raw(io.RawIOBase):
    """A file descriptor to write to; once nobody reads it any more, what is written is dropped.

    Args:
        descriptor: it stays open when this object is gone.
        lenient: whether to drop what cannot be written for any other reason too, such as a full disk.
    """

    def __init__(self, descriptor: int, lenient: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lenient = lenient
        self.gone = False

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        try:
            return os.isatty(self._descriptor)
        except OSError:
            return False

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self.gone:
            return len(data)
        try:
            return self._written(data)
        except OSError as error:
            self.gone = True  # what follows is dropped: the interpreter writes once more when it ends
            if error.errno not in GONE and not self._lenient:
                raise
            return len(data)

    def _written(self, data: Any) -> int:
        """Write, and wait where another program that shares the terminal or pipe has made it non-blocking."""
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])


def open_streams() -> None:
    """Make sure that a program may print: for the start of a command.

    A closed descriptor 0, 1 or 2 leads to the null device, so that no file opened later gets its number, and messages
    of libraries do not end up in that file. What is printed to a pipe that nobody reads any more is dropped, and so is
    whatever stderr does not take: the work goes on. A character that the encoding lacks is written in plain letters or
    escaped. Streams that somebody else put in Python's place stay.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _replaced(sys.stdout, 1, lenient=False)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _replaced(sys.stderr, 2, lenient=True)


def text_stream(descriptor: int, lenient: bool, encoding: str | None = None) -> TextIO:
    """Return a stream that writes to `descriptor` as `open_streams` says, a line at a time."""
    raw = _Raw(descriptor, lenient)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding or "utf-8", ERRORS, line_buffering=True)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether this stream is a terminal; a closed one is not."""
    return stream is not None and not stream.closed and stream.isatty()


def nobody_reads() -> bool:
    """Return whether what was printed found a closed pipe, so that a loop of prints may end."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Raw) and raw.gone


def one_line(text: str) -> str:
    """Return a message on one line; blanks within a line stay, for they may be those of a file name."""
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def printable(text: str) -> str:
    """Return `text` as stdout can show it, for a stream that `open_streams` left as it was."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, ERRORS).decode(encoding)


def _replaced(stream: TextIO | None, descriptor: int, lenient: bool) -> TextIO:
    if stream is None:
        return text_stream(descriptor, lenient)
    stream.flush()
    return text_stream(stream.fileno(), lenient, stream.encoding)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what an encoding lacks in plain letters, else escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if character in PLAIN:
        return PLAIN[character], error.start + 1
    one = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    return codecs.backslashreplace_errors(one)


codecs.register_error(ERRORS, _plain)
