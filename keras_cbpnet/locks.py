"""A folder that one process at a time works in: a lock file, which a process that is killed does not keep."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from keras_cbpnet.errors import UserError

__all__ = ["LOCK", "give_back", "in_use", "locked", "take_lock"]

LOCK = "lock"


def take_lock(folder: Path) -> IO[bytes] | None:
    """Lock `folder` and return what holds the lock until it is closed; None where another process works in it."""
    while True:
        file = (folder / LOCK).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:  # a file system without locks: nothing can be told there
            return file
        if _is_there(folder / LOCK, file):
            return file
        file.close()  # removed by its holder in between


def give_back(folder: Path, lock: IO[bytes]) -> None:
    """Unlock `folder`; nothing is left in it."""
    (folder / LOCK).unlink(missing_ok=True)
    lock.close()


@contextlib.contextmanager
def locked(folder: Path, message: str) -> Iterator[None]:
    """Hold the lock of `folder` for a block.

    Raises:
        UserError: with `message`, where another process holds it.
    """
    lock = take_lock(folder)
    if lock is None:
        raise UserError(message)
    try:
        yield
    finally:
        give_back(folder, lock)


def in_use(folder: Path) -> bool:
    """Return whether another process works in `folder`; nothing is written."""
    try:
        file = (folder / LOCK).open("rb")
    except OSError:  # there is no lock
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _is_there(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
