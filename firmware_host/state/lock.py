"""One process writes into a state folder; a second one is told so at once."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import IO

from firmware_host.bundle import DeviceError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK_FILE", "FolderLock", "lock_folder"]

LOCK_FILE = "lock"


class FolderLock:
    """Holds the lock until each of its users released it, or until nobody refers to it any more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._users = 1

    def joined(self) -> FolderLock | None:
        """Return the lock itself with one more user, None when it is released already."""
        if self._file.closed:
            return None
        self._users += 1
        return self

    def release(self) -> None:
        """Let others in, once the last user is gone."""
        self._users -= 1
        if self._users == 0:
            self._file.close()


# Two devices of one process share its lock; a forked child is another process and takes its own.
_held: weakref.WeakValueDictionary[tuple[int, str], FolderLock] = weakref.WeakValueDictionary()


def lock_folder(folder: Path) -> FolderLock:
    """Lock `folder`, making it if need be, and return the lock.

    Raises:
        DeviceError: another process holds it or the folder cannot be written.
    """
    key = (os.getpid(), str(folder.resolve()))
    held = _held.get(key)
    shared = held.joined() if held is not None else None
    if shared is not None:
        return shared
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Opened for writing: without, NFS grants no exclusive lock.
        file = os.fdopen(os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
    except OSError as error:
        raise DeviceError(
            f"state {folder} cannot be written ({error.strerror}): make it writable or give another --state"
        ) from error
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise DeviceError(f"state {folder} is in use by another process: stop it or give another --state") from None
        except OSError as error:  # a file system without locks
            file.close()
            raise DeviceError(
                f"state {folder} cannot be locked ({error.strerror}): put it on a local file system with --state"
            ) from error
    lock = FolderLock(file)
    _held[key] = lock
    return lock
