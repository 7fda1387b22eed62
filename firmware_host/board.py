"""What board this is, as far as Linux tells: its name, its cores, what sets their clock, how warm it is."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any, Optional

__all__ = ["board", "temperature_c"]

SYS, PROC = Path("/sys"), Path("/proc")


def board(sys: Path = SYS, proc: Path = PROC) -> dict[str, Any]:
    """Return what is known of this board; None for what the system does not say.

    Args:
        sys: where the kernel's tree of devices is.
        proc: where its tree of processes is.

    Returns:
        board (the name of the model), processor, architecture, cores that this process may use, governor (of the first
        core's clock), clock_mhz (the most that it allows), python.
    """
    clock = sys / "devices/system/cpu/cpu0/cpufreq"
    most = _read(clock / "scaling_max_freq")
    return {
        "board": _read(proc / "device-tree/model") or _read(sys / "class/dmi/id/product_name"),
        "processor": _processor(proc),
        "architecture": platform.machine(),
        "cores": _cores(),
        "governor": _read(clock / "scaling_governor"),
        "clock_mhz": round(int(most) / 1000) if most and most.isdigit() else None,
        "python": platform.python_version(),
    }


def temperature_c(sys: Path = SYS) -> Optional[float]:
    """Return the temperature of the processor in degrees Celsius: of its thermal zone, or the warmest of all zones.

    Args:
        sys: as for `board`.

    Returns:
        None where there is no zone, as in a virtual machine.
    """
    zones = sorted((sys / "class/thermal").glob("thermal_zone*"))
    found = {zone: _read(zone / "temp") for zone in zones}
    degrees = {zone: int(text) / 1000 for zone, text in found.items() if text and re.fullmatch(r"-?\d+", text)}
    own = [value for zone, value in degrees.items() if re.search("cpu|soc|pkg", _read(zone / "type") or "")]
    return max(own or degrees.values(), default=None)


def _processor(proc: Path) -> Optional[str]:
    """Return the first name of a processor in /proc/cpuinfo; aarch64 has a number there alone."""
    text = _read(proc / "cpuinfo") or ""
    for key in ("model name", "Hardware", "CPU part"):
        if found := re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE):
            return found[1].strip()
    return None


def _cores() -> Optional[int]:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux
        return os.cpu_count()


def _read(file: Path) -> Optional[str]:
    """Return the text of a file of the kernel's without blanks and zero bytes; None where there is none."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t") or None
    except OSError:
        return None
