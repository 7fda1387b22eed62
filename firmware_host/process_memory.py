"""How much memory this process takes, and whether something more fits under the limit that the user set."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from firmware_host.bundle import DeviceError

__all__ = ["MIB", "check_fits", "give_back_freed", "peak_memory_mb", "resident_memory_mb", "side_by_side"]

MIB = 1 << 20


def peak_memory_mb() -> float | None:
    """Return the largest resident size of this process so far in MiB; None where the system does not say."""
    if sys.platform == "linux":  # where getrusage starts at the size of the process that started this one
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / (1 << 10)  # KiB
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1 << 10)  # bytes there, KiB elsewhere


def resident_memory_mb() -> float:
    """Return the resident size of this process in MiB: the peak outside Linux, 0 where the system says neither."""
    if sys.platform == "linux":
        file = os.open("/proc/self/statm", os.O_RDONLY)  # a tenth of the time of /proc/self/status
        try:
            return int(os.read(file, 100).split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
        finally:
            os.close(file)
    return peak_memory_mb() or 0.0


def check_fits(what: str, need: int, limit_mb: float) -> None:
    """Raise DeviceError when `need` bytes more would take this process over `limit_mb`.

    Args:
        what: what needs them, as the message names it.
        need: bytes.
        limit_mb: the limit of the whole process in MiB.
    """
    used = resident_memory_mb()
    if used + need / MIB > limit_mb and give_back_freed():
        used = resident_memory_mb()
    if used + need / MIB > limit_mb:
        enough = -(-(used + need / MIB) // 16) * 16
        raise DeviceError(
            f"{what} needs {need / MIB:.0f} MiB and {used:.0f} of {limit_mb:g} MiB are in use: make it smaller or use "
            f"--max-memory {enough + 16:.0f}"
        )


def give_back_freed() -> bool:
    """Make the C library return what earlier images left free with it; say whether it can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        return False
    trim(0)
    return True


class _Taken:
    """Bytes that threads are about to take, and may not have taken yet."""

    def __init__(self) -> None:
        self.bytes = 0
        self.change = threading.Condition()


_TAKEN = _Taken()


@contextmanager
def side_by_side(need: int, free_mb: Callable[[], float]) -> Iterator[None]:
    """Wait until `need` bytes fit beside what other threads take in such a context, and take them while this one lasts.

    Nobody waits who is alone: whether the bytes fit at all is for `check_fits` to say, in the context.

    Args:
        need: bytes.
        free_mb: returns how many MiB are free now.
    """
    with _TAKEN.change:
        _TAKEN.change.wait_for(lambda: not _TAKEN.bytes or (_TAKEN.bytes + need) / MIB <= free_mb())
        _TAKEN.bytes += need
    try:
        yield
    finally:
        with _TAKEN.change:
            _TAKEN.bytes -= need
            _TAKEN.change.notify_all()
