"""The folder of a learned state: two slots written in turn, the newest whole one counts.

A write is a new file, fsync, rename, fsync of the folder: after a power cut the folder holds the old state or the new
one, and where the storage itself loses one slot, the state before it is in the other.

Every file says at which save the last lesson began. The slot that holds this save is not written over: it is renamed,
so that there is one more file while a lesson saves on its way.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.shared.arguments import given_path
from firmware_host.shared.files import sync_folder, write_atomically
from firmware_host.state.encoding import REMEDY, DamagedError, StateFile, Written, decode, encode, generation_in
from firmware_host.state.lock import LOCK_FILE, FolderLock, lock_folder
from firmware_host.state.running import running_seconds
from firmware_host.state.snapshot import Snapshot

__all__ = ["StateFolder", "default_folder", "read_file", "state_path"]

SLOTS = ("state.a.npz", "state.b.npz")
EARLIER = "state.earlier.npz"  # where the last lesson began, when no slot holds it any more
VERSION_1 = "state.npz"  # the one file of schema version 1
logger = logging.getLogger(__name__)


def default_folder(bundle: Path) -> Path:
    """Return the folder beside the bundle where its state is kept: the bundle's path with `.state` appended."""
    path = bundle.resolve()
    return path.with_name(path.name + ".state")


def state_path(bundle: Path, state: str | os.PathLike[str] | None) -> Path:
    """Return the folder that a user named, or else the one beside the bundle; raises DeviceError for an empty name."""
    return default_folder(bundle) if state is None else given_path(state, "state")


def read_file(path: Path) -> StateFile:
    """Read one state file; raises DeviceError when it is not there, damaged or of another schema version."""
    try:
        return decode(path.read_bytes(), path)
    except FileNotFoundError:
        raise DeviceError(f"state file {path} does not exist: check the path") from None
    except DamagedError as error:
        raise DeviceError(f"state file {path} is damaged ({error}): give another backup") from error


class StateFolder:
    """Reads and writes the learned state of one bundle; whoever writes holds the folder's lock until `close()`.

    Args:
        path: the folder; it is made at the first write.
        bundle: the bundle that the state belongs to.
        clock: gives the seconds that the system has been running, for the bytes written per hour.
    """

    def __init__(self, path: Path, bundle: Bundle, clock: Callable[[], float] = running_seconds) -> None:
        self.path = path
        self.bundle = bundle
        self._running_seconds = clock
        self._generation = 0
        self._before: int | None = None
        self._written = Written()
        self._lock: FolderLock | None = None
        self.saves = 0
        self.bytes_written = 0

    @property
    def generation(self) -> int:
        """Number of the newest save read or written; 0 before the first."""
        return self._generation

    @property
    def newest_file(self) -> Path | None:
        """The file of the newest save read or written; None before the first, and where it was renamed since."""
        files = [path for path in (self.path / name for name in SLOTS) if generation_in(path) == self._generation]
        return files[0] if self._generation and files else None

    @property
    def before(self) -> int | None:
        """Number of the save that the last lesson began at, 0 for none; None where no lesson can be taken back."""
        return self._before

    @property
    def cost(self) -> dict[str, float]:
        """What saving cost: saves and bytes_written by this object, bytes_written_per_hour over the folder's life."""
        return {
            "saves": self.saves,
            "bytes_written": self.bytes_written,
            "bytes_written_per_hour": self.bytes_per_hour,
        }

    @property
    def bytes_per_hour(self) -> float:
        """Bytes written per hour of a running device since the folder's first save; less than an hour counts as one."""
        return self._written.per_hour(self._running_seconds())

    def read(self) -> Snapshot | None:
        """Return what was learned, of the newest whole slot; None when the folder holds nothing yet.

        A damaged slot is logged, and kept aside under another name where the folder can be written.

        Raises:
            DeviceError: no slot is whole, or the state is of another bundle or schema version.
        """
        newest = self.newest()
        if newest is None:
            return None
        state = newest.snapshot(self.bundle)
        self._generation, self._written = newest.generation, newest.written
        self._before = newest.meta.get("before")
        return state

    def earlier(self, generation: int) -> Snapshot:
        """Return what was learned by the save number `generation`; raises DeviceError where it is no longer there."""
        for path in self._present():
            if generation_in(path) == generation:
                return read_file(path).snapshot(self.bundle)
        raise DeviceError(f"state {self.path} does not hold save {generation} any more: import a backup of it")

    def newest(self) -> StateFile | None:
        """Return the newest whole file, of whichever bundle; as `read` otherwise."""
        if self.path.exists() and not self.path.is_dir():
            raise DeviceError(f"state {self.path} is not a folder: give another --state")
        whole, damaged = self._sorted_out()
        if damaged and not whole:
            reasons = "; ".join(f"{path.name}: {reason}" for path, reason in damaged.items())
            raise DeviceError(f"state {self.path} is damaged ({reasons}): {REMEDY}")
        if damaged:
            self._report(damaged)
        return max(whole, key=lambda file: file.generation, default=None)

    def check_free(self) -> None:
        """Lock a folder that was written before, so that a process that must wait is told early; see `lock`."""
        if (self.path / LOCK_FILE).exists():
            self.lock()

    def lock(self) -> None:
        """Lock the folder for this process, the only one that may then write here.

        Raises:
            DeviceError: another process is, when the folder cannot be written, or somebody wrote after it was read.
        """
        if self._lock is None:
            self._lock = lock_folder(self.path)
        found = max(self._on_disk(), 0)
        if found != self._generation:
            raise DeviceError(
                f"state {self.path} was changed by somebody else (save {found}, opened at {self._generation}): "
                "open it again"
            )

    def write(self, snapshot: Snapshot, before: int | None = None) -> Path:
        """Write `snapshot` into the older slot and return its path; a failure leaves what was saved as it was.

        Args:
            snapshot: what was learned.
            before: number of the save that the last lesson began at, 0 for none; it is kept. None: there is none.

        Raises:
            DeviceError: as `lock` does, and when the disk is full.
        """
        self.lock()
        return self._write(snapshot, before)

    def replace(self, snapshot: Snapshot) -> Path:
        """Write `snapshot`, of whatever origin, and keep what was there before aside; raises DeviceError as `write`."""
        self._lock = self._lock or lock_folder(self.path)
        self._aside(list(self._sorted_out()[1]), "damaged")
        before = self._present()
        self._generation = max(self._on_disk(), 0)
        path = self._write(snapshot)
        self._aside([old for old in before if old != path and old.exists()], "replaced")
        return path

    def reset(self) -> list[Path]:
        """Rename every slot, so that the folder holds no learned state any more; return the new names.

        Raises:
            DeviceError: another process writes here or the folder cannot be written.
        """
        self._lock = self._lock or lock_folder(self.path)
        present = [path for path in (self.path / name for name in (VERSION_1, *SLOTS, EARLIER)) if path.exists()]
        kept = self._aside(sorted(present, key=generation_in), "reset")  # the newest goes last, it counts until then
        self._generation, self._before, self._written = 0, None, Written()
        return kept

    def close(self) -> None:
        """Release the lock, so that others may write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _write(self, snapshot: Snapshot, before: int | None = None) -> Path:
        slots = [self.path / name for name in SLOTS]
        path = min(slots, key=generation_in)  # one that is not there comes before all
        migrated = self.path / VERSION_1
        if self._generation == 0 and migrated.exists():
            before = None  # it counts as no save
        now = self._running_seconds()
        content, written = encode(snapshot, self.bundle, self._generation + 1, self._written, now, before)
        try:
            if before and generation_in(path) == before:
                os.replace(path, self.path / EARLIER)
                sync_folder(self.path)
            write_atomically(path, content, path.with_name(path.name + ".tmp"))
            if generation_in(self.path / EARLIER) not in (-1, before):  # it belongs to the lesson before
                (self.path / EARLIER).unlink()
            if self._generation == 0 and migrated.exists():
                self._aside([migrated], "migrated")
        except OSError as error:
            self._generation = max(self._on_disk(), 0)
            raise DeviceError(
                f"state {path} cannot be written ({error.strerror}): free space or give another --state"
            ) from error
        self._generation, self._before, self._written = self._generation + 1, before, written
        self.saves += 1
        self.bytes_written += len(content)
        return path

    def _present(self) -> list[Path]:
        slots = [path for path in (self.path / name for name in (*SLOTS, EARLIER)) if path.exists()]
        return slots or [path for path in (self.path / VERSION_1,) if path.exists()]

    def _on_disk(self) -> int:
        return max(generation_in(self.path / name) for name in SLOTS)

    def _sorted_out(self) -> tuple[list[StateFile], dict[Path, str]]:
        """Return the whole files, and why each of the others is damaged."""
        whole: list[StateFile] = []
        damaged: dict[Path, str] = {}
        for path in self._present():
            try:
                whole.append(decode(path.read_bytes(), path))
            except DamagedError as error:
                damaged[path] = str(error)
            except FileNotFoundError:  # renamed since it was listed
                continue
            except PermissionError:
                raise
            except OSError as error:  # storage that does not give the bytes back
                damaged[path] = error.strerror or type(error).__name__
        return whole, damaged

    def _report(self, damaged: dict[Path, str]) -> None:
        held, where = self._lock, "left where it is"
        try:
            self._lock = held or lock_folder(self.path)
            if self._sorted_out()[1] == damaged:  # nobody wrote a new one in the meantime
                where = "kept as " + ", ".join(path.name for path in self._aside(list(damaged), "damaged"))
        except (DeviceError, OSError) as error:  # a reader where another process writes, or nobody may
            logger.debug("%s is not kept aside: %s", ", ".join(map(str, damaged)), error)
        if held is None:
            self.close()
        for path, reason in damaged.items():
            logger.warning("state %s is damaged (%s), going on with the other slot; %s", path, reason, where)

    def _aside(self, paths: list[Path], why: str) -> list[Path]:
        kept = []
        for path in paths:
            number = 1
            while (aside := path.with_name(f"{path.name}.{why}-{number}")).exists():
                number += 1
            os.rename(path, aside)
            kept.append(aside)
        sync_folder(self.path)
        return kept
