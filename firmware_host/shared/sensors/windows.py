"""Windows of any sensor: .npy and .csv files of numbers, a row for each sample and a column for each channel.

Dimensions: T samples, C channels.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from firmware_host.shared.errors import DeviceError

__all__ = ["read_window"]

Array = np.ndarray[Any, Any]
NUMPY = b"\x93NUMPY"
LEAST = 8  # samples of a window


def read_window(name: str, content: bytes) -> Array:
    """Return a window, float64 [T, C], of the bytes of a .npy or .csv file, which messages call `name`.

    A .npy holds [T, C] or [T]; a .csv numbers with commas, semicolons, tabs or blanks between, and perhaps a first line
    of names.

    Raises:
        DeviceError: it is neither, has other dimensions, too few samples, or values that are not finite numbers.
    """
    found = _of_npy(name, content) if content.startswith(NUMPY) else _of_csv(name, content)
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or found.shape[1] == 0:
        raise DeviceError(f"window {name} has shape {list(found.shape)}: write [samples, channels]")
    if len(found) < LEAST:
        raise DeviceError(f"window {name} has {len(found)} samples, at least {LEAST} are needed: make it longer")
    wrong = np.argwhere(~np.isfinite(found))
    if len(wrong):
        sample, channel = wrong[0].tolist()
        raise DeviceError(
            f"window {name} holds {found[sample, channel]} at sample {sample}, channel {channel}: fill the gap or "
            "leave the window out"
        )
    return found


def _of_npy(name: str, content: bytes) -> Array:
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy raises many kinds for one cause
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeviceError(f"window {name} cannot be read ({reason}): write it again with numpy.save") from error
    if found.dtype.kind not in "iufb":
        raise DeviceError(f"window {name} holds {found.dtype}: write numbers")
    return np.asarray(found, np.float64)


def _of_csv(name: str, content: bytes) -> Array:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DeviceError(f"window {name} is neither a .npy file nor text: write .npy or .csv") from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        row = _numbers(line)
        if not rows and number == 1 and not any(isinstance(cell, float) for cell in row):  # the channels' names
            continue
        told = [cell for cell in row if isinstance(cell, float)]
        if len(told) < len(row):
            raise DeviceError(f"window {name} holds other than numbers in line {number}, {line[:40]!r}: write numbers")
        if told and rows and len(told) != len(rows[0]):
            raise DeviceError(
                f"window {name} has {len(told)} numbers in line {number} and {len(rows[0])} before it: fill the gap"
            )
        if told:
            rows.append(told)
    return np.array(rows, np.float64)


def _numbers(line: str) -> list[float | str]:
    """Return the cells of a line, as numbers where they are some; with semicolons, a comma is a decimal one."""
    cells = [cell.strip() for cell in line.replace(",", ".").split(";")] if ";" in line else _split(line)
    return [_number(cell) for cell in cells]


def _split(line: str) -> list[str]:
    separator = "," if "," in line else None  # tabs and blanks
    return [cell.strip() for cell in line.split(separator)]


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell
