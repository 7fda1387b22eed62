"""The body of an answer of a server that need not be trusted: limited in size and in time.

RFC 2046, section 5.1: parts and their boundary; cameras put dashes of their own into it, or leave some out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from firmware_host.images.cameras.kind import SILENT_S
from firmware_host.process_memory import MIB

__all__ = ["Body", "BodyError"]

LARGEST = 8 * MIB  # bytes of one picture
CHUNK = 1 << 16
HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"^content-length:[ \t]*([0-9]{1,10})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class BodyError(Exception):
    """A body that is too large, too slow or not of the form it says; one line without its content."""


class Body:
    """What a server sends, read in pieces.

    Args:
        answer: has `read1`, as of `http.client.HTTPResponse`, with a time limit of its own on every piece.
    """

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._held = bytearray()
        self._begin()

    def all(self) -> bytes:
        """Return everything up to the end."""
        while self._more():
            pass
        return bytes(self._held)

    def parts(self, boundary: bytes) -> Iterator[bytes]:
        """Yield the content of one part after the other, each as soon as it is there, without their headers."""
        mark = b"--" + boundary
        while True:
            self._begin()
            self._take(self._until(mark) + len(mark))
            head = self._take(self._until(HEAD_END) + len(HEAD_END))
            if head.startswith(b"--"):
                raise BodyError("the stream has ended")
            length = LENGTH.search(head)
            yield self._take(int(length[1]) if length else self._until(mark))

    def _begin(self) -> None:
        self._due = time.monotonic() + SILENT_S

    def _until(self, mark: bytes) -> int:
        """Read on up to a mark and return its place."""
        start = 0
        while (place := self._held.find(mark, start)) < 0:
            start = max(len(self._held) - len(mark), 0)
            self._need()
        return place

    def _take(self, size: int) -> bytes:
        if size > LARGEST:
            raise BodyError(f"more than {LARGEST // MIB} MiB")
        while len(self._held) < size:
            self._need()
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def _need(self) -> None:
        if not self._more():
            raise BodyError("the stream has ended")

    def _more(self) -> bool:
        """Read another piece; return whether there was one."""
        if time.monotonic() > self._due:
            raise BodyError(f"no whole picture in {SILENT_S:g} s")
        if len(self._held) > LARGEST:
            raise BodyError(f"more than {LARGEST // MIB} MiB")
        piece = self._answer.read1(CHUNK)
        self._held += piece
        return bool(piece)
