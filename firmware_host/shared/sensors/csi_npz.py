"""Many recordings of channel state in one .npz file, in several settings.

    csi                       uint8 [P, 90]: rounded amplitudes of all packets, column = antenna * 30 + subcarrier
    start, length             integers [N]: first packet of each recording, and how many
    activity, domain          integers [N]: its class and its setting
    repetition                integers [N]: which repetition it is, within its setting
    activity_names, domain_names   strings

Dimensions: P packets, N recordings.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from firmware_host.shared.errors import DeviceError
from firmware_host.shared.npz import names_in, read_arrays
from firmware_host.shared.sensors.intel5300 import ANTENNAS, SUBCARRIERS
from firmware_host.shared.sensors.pictures import csi_picture

__all__ = ["ARRAYS", "Recordings", "read_csi_npz"]

Array = np.ndarray[Any, Any]
PER_RECORDING = ("start", "length", "activity", "domain", "repetition")
ARRAYS = ("csi", *PER_RECORDING, "activity_names", "domain_names")
EVERY = 5  # each so many repetitions of a setting, one is kept for testing
OTHER = "write packets of an Intel 5300, uint8 [packets, 90]"


class Recordings(NamedTuple):
    """What a file holds.

    Args:
        x: pictures, uint8 [N, 32, 32, 3].
        y: their classes, int64 [N], index into `names`.
        domain: their settings, int64 [N], index into `domain_names`.
        tests: bool [N], whether one is for testing: by its repetition, the same ones of every class.
        names: of the classes.
        domain_names: of the settings.
    """

    x: Array
    y: Array
    domain: Array
    tests: Array
    names: tuple[str, ...]
    domain_names: tuple[str, ...]


def read_csi_npz(path: Path, check_size: Callable[[int], None] | None = None) -> Recordings:
    """Read a file of recordings; see the module.

    Args:
        path: of the file.
        check_size: called with the bytes that the arrays will take, before they are read.

    Raises:
        DeviceError: for a file that is damaged in any way or not such an .npz, and what `check_size` raises.
    """
    arrays = read_arrays(path, ARRAYS, check_size)
    names = names_in(path, "activity_names", arrays["activity_names"])
    domain_names = names_in(path, "domain_names", arrays["domain_names"], "domain")
    csi, columns = arrays["csi"], ANTENNAS * SUBCARRIERS
    if csi.ndim != 2 or csi.shape[1] != columns or csi.dtype != np.uint8:
        raise DeviceError(f"data {path}: csi is {csi.dtype} {list(csi.shape)}: {OTHER}")
    count = len(arrays["start"]) if arrays["start"].ndim == 1 else 0
    for name in PER_RECORDING:
        if arrays[name].dtype.kind not in "iu" or arrays[name].shape != (count,) or not count:
            raise DeviceError(
                f"data {path}: {name} is {arrays[name].dtype} {list(arrays[name].shape)}: write one integer a recording"
            )
    start, length, y, domain, repetition = (arrays[name].astype(np.int64) for name in PER_RECORDING)
    wrong = np.flatnonzero((start < 0) | (length < 1) | (start + length > len(csi)))
    if len(wrong):
        row = int(wrong[0])
        raise DeviceError(
            f"data {path}: recording {row} has packets {start[row]} to {start[row] + length[row]} of {len(csi)}: "
            "write the file again"
        )
    for name, numbers, known in (("activity", y, names), ("domain", domain, domain_names)):
        if numbers.min() < 0 or numbers.max() >= len(known):
            worst = int(numbers.min() if numbers.min() < 0 else numbers.max())
            raise DeviceError(f"data {path}: {name} contains {worst}, {name}_names has {len(known)} names: correct one")
    pictures = [csi_picture(csi[a : a + n].reshape(n, ANTENNAS, SUBCARRIERS)) for a, n in zip(start, length)]
    return Recordings(
        np.stack(pictures), y, domain, _tests(path, domain, repetition, domain_names), names, domain_names
    )


def _tests(path: Path, domain: Array, repetition: Array, domain_names: tuple[str, ...]) -> Array:
    """Return which recordings are for testing, bool [N]."""
    tests = np.zeros(len(domain), np.bool_)
    for index, name in enumerate(domain_names):
        mine = np.flatnonzero(domain == index)
        known, rank = np.unique(repetition[mine], return_inverse=True)
        if len(known) < 2:
            raise DeviceError(
                f"data {path}: setting '{name}' has {len(known)} repetition(s), a split for testing needs 2: "
                "record more"
            )
        tests[mine] = rank % EVERY == min(EVERY, len(known)) - 1
    return tests
