"""A PNG file without its metadata: what Pillow reads when text or a colour profile in it is damaged or too large."""

from __future__ import annotations

import io
from typing import IO

__all__ = ["without_metadata"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEPT = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")  # besides what begins with a capital letter: transparency,
# orientation, animation
Ranges = list[tuple[int, int]]  # start and length of pieces of a file


def without_metadata(file: IO[bytes]) -> IO[bytes] | None:
    """Return a file that shows the pixels and the orientation of a PNG alone; None for what is not a PNG.

    Args:
        file: open for reading; it is read when the result is, and must stay open.
    """
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    kept: Ranges = [(0, len(SIGNATURE))]
    place = len(SIGNATURE)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            break
        length, name = 12 + int.from_bytes(head[:4], "big"), head[4:]
        if name[:1].isupper() or name in KEPT:
            kept.append((place, length))
        place += length
        if name == b"IEND":
            break
    return io.BufferedReader(_Pieces(file, kept))


class _Pieces(io.RawIOBase):
    """Pieces of a file as one file."""

    def __init__(self, file: IO[bytes], pieces: Ranges) -> None:
        super().__init__()
        self._file = file
        self._pieces = pieces
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence, sum(length for _, length in self._pieces))
        self._place = start + offset
        return self._place

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        before = 0
        for start, length in self._pieces:
            if self._place < before + length:
                inside = self._place - before
                self._file.seek(start + inside)
                data = self._file.read(min(len(buffer), length - inside))
                buffer[: len(data)] = data
                self._place += len(data)
                return len(data)
            before += length
        return 0
