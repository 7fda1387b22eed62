"""Writing a file so that a power cut leaves either the old bytes or the new ones."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

__all__ = ["sha256_of_file", "sync_folder", "write_atomically"]

Writer = Callable[[IO[bytes]], object]


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes | Writer, temporary: Path | None = None) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename, fsync of the folder.

    Args:
        path: the file; what was there is replaced.
        content: its bytes, or what writes them into an open file.
        temporary: names the temporary file where only one process writes, so that one killed again and again leaves a
            single one.

    Raises:
        OSError: the folder cannot be written; the old file is then still there, unchanged.
    """
    if temporary is None:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
    else:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        with os.fdopen(handle, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private; the files of a bundle are meant to be copied
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder outlast a power cut."""
    if os.name == "posix":  # elsewhere a folder cannot be opened for fsync
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
