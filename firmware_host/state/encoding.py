"""The bytes of a state file: an .npz with one more line, which says the schema, the generation and the checksum.

The checksum covers every byte before it. `numpy.load` opens the file as it is. Schema version 1 had no such line and
kept its checksum as an array.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.bundle import STATE_SCHEMA_VERSION, Bundle, DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.state.running import Running, boot
from firmware_host.state.snapshot import Snapshot, from_arrays, head_key, to_arrays

__all__ = [
    "DamagedError",
    "StateFile",
    "Written",
    "decode",
    "encode",
    "generation_in",
    "to_bytes",
]

REMEDY = "import a backup with `state BUNDLE import FILE`, or start again from the bundle with `state BUNDLE reset`"
LINE = re.compile(rb"\ncbpnet state schema (\d{6}) generation (\d{20}) sha256 ([0-9a-f]{64})\n")
LINE_LENGTH = len("\ncbpnet state schema  generation  sha256 \n") + 6 + 20 + 64
CHECKSUM_LENGTH = 64 + 1  # and the end of the line
Content = tuple[dict[str, Array], dict[str, Any]]  # the arrays of a file, and what its `meta` says


NEVER = Running()


class DamagedError(ValueError):
    """A state file that is not whole; the message says how that was seen."""


@dataclass(frozen=True)
class Written:
    """How much was written into a state folder, over its whole life: bytes, saves, and since when (Unix time).

    `running` counts the same by a clock that does not jump, from the first save that had one.
    """

    bytes: int = 0
    saves: int = 0
    since: float = 0.0
    running: Running = NEVER

    def plus(self, size: int, now: float) -> Written:
        """Return the same with one more save of `size` bytes, at this moment of `running_seconds`."""
        since = self.since if self.saves else time.time()
        return Written(self.bytes + size, self.saves + 1, since, self.running.plus(size, now, boot()))

    def per_hour(self, now: float) -> float:
        """Return the bytes written per hour in which the device was running; less than an hour counts as one."""
        return self.running.per_hour(now, boot())


@dataclass(frozen=True)
class StateFile:
    """A whole state file: its arrays, what `meta` says, its generation (0 for schema version 1) and `written`."""

    path: Path
    arrays: dict[str, Array]
    meta: dict[str, Any]
    generation: int
    written: Written

    def snapshot(self, bundle: Bundle) -> Snapshot:
        """Return what was learned with `bundle`; raises DeviceError when it belongs to another one."""
        if self.meta["bundle"] != bundle.model_identity:
            raise DeviceError(
                f"state {self.path.parent} belongs to another bundle ({self.meta['bundle'][:12]}, {bundle.path} is "
                f"{bundle.model_identity[:12]}): give the state of this bundle with --state"
            )
        try:
            return from_arrays(self.arrays, self.meta, bundle)
        except (KeyError, ValueError) as error:
            raise DeviceError(
                f"state {self.path} does not fit the head of {bundle.path} ({error}): {REMEDY}"
            ) from error


def encode(
    snapshot: Snapshot, bundle: Bundle, generation: int, written: Written, now: float, before: int | None = None
) -> tuple[bytes, Written]:
    """Return the bytes of a state file and how much was written with it; `written` is what was before.

    `before` is the generation that the last lesson began at, 0 for none saved, None where it cannot be taken back.
    """
    arrays = to_arrays(snapshot)
    meta = {
        **json.loads(str(arrays["meta"])),
        "schema_version": STATE_SCHEMA_VERSION,
        "bundle": bundle.model_identity,
        "backbone": bundle.manifest["sha256"]["backbone.tflite"],
        "head": head_key(bundle),
        "boot": boot() if now else "",  # outside any folder nothing is counted
        "before": before,
    }
    arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
    arrays["written"] = np.zeros(3)  # [bytes, saves, since]; the size of the file is known once they are there
    arrays["running"] = np.zeros(3)  # [bytes, seconds, at], see Running
    written = written.plus(len(_npz(arrays)) + LINE_LENGTH, now)
    arrays["written"] = np.array([written.bytes, written.saves, written.since])
    arrays["running"] = np.array(written.running.numbers())
    body = _npz(arrays) + b"\ncbpnet state schema %06d generation %020d sha256 " % (STATE_SCHEMA_VERSION, generation)
    return body + hashlib.sha256(body).hexdigest().encode() + b"\n", written


def to_bytes(snapshot: Snapshot, bundle: Bundle, generation: int) -> bytes:
    """Return the bytes of a state file outside any folder, such as a backup: the same for the same state."""
    return encode(snapshot, bundle, generation, Written(saves=1), 0.0)[0]


def decode(content: bytes, path: Path) -> StateFile:
    """Read the bytes of a state file of any of READ_VERSIONS; `path` is for messages.

    Raises:
        DamagedError: they are not whole.
        DeviceError: they are of another schema version.
    """
    line = LINE.fullmatch(content[-LINE_LENGTH:])
    if line is None:
        version, generation = 1, 0
        arrays, meta = _opened_version_1(content)
        _check_version(meta["schema_version"], path)
    else:
        if hashlib.sha256(content[:-CHECKSUM_LENGTH]).hexdigest().encode() != line[3]:
            raise DamagedError("its checksum does not hold")
        version, generation = int(line[1]), int(line[2])
        _check_version(version, path)
        arrays, meta = _opened(content[:-LINE_LENGTH])
    for older in range(version, STATE_SCHEMA_VERSION):
        arrays, meta = UPGRADES[older](arrays, meta)
    total, saves, since = arrays.pop("written").tolist()
    counted, seconds, at = arrays.pop("running", np.zeros(3)).tolist()
    running = Running(int(counted), seconds, str(meta.get("boot", "")), at)
    return StateFile(path, arrays, meta, generation, Written(int(total), int(saves), since, running))


def generation_in(path: Path) -> int:
    """Return the generation that the last line of a state file gives, without reading the rest; -1 for none."""
    try:
        with path.open("rb") as file:
            file.seek(0, io.SEEK_END)
            file.seek(max(file.tell() - LINE_LENGTH, 0))
            line = LINE.fullmatch(file.read())
    except FileNotFoundError:
        return -1
    return int(line[2]) if line else -1


def _opened(content: bytes) -> Content:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays["meta"]))
        meta["schema_version"], meta["bundle"], meta["classes"], meta["generator"]
    except Exception as error:  # zipfile, zlib, json and NumPy raise many kinds for one cause
        raise DamagedError(" ".join(str(error).split()) or type(error).__name__) from error
    return arrays, meta


def _opened_version_1(content: bytes) -> Content:
    arrays, meta = _opened(content)
    if "sha256" not in arrays or str(arrays.pop("sha256")) != _checksum_version_1(arrays):
        raise DamagedError("its checksum does not hold")
    return arrays, meta


def _check_version(version: object, path: Path) -> None:
    if version not in READ_VERSIONS:
        raise DeviceError(
            f"state {path} has schema version {version!r}, this firmware_host reads "
            f"{' and '.join(map(str, READ_VERSIONS))}: install the matching keras-cbpnet, or start again from the "
            "bundle with `state BUNDLE reset`"
        )


def _to_version_2(arrays: dict[str, Array], meta: dict[str, Any]) -> Content:
    """Add what was written, which version 1 did not count."""
    return {**arrays, "written": np.array([0.0, 0.0, time.time()])}, meta


Upgrade = Callable[[dict[str, Array], dict[str, Any]], Content]
UPGRADES: dict[int, Upgrade] = {1: _to_version_2}  # from each version to the next
READ_VERSIONS = (*UPGRADES, STATE_SCHEMA_VERSION)


def _npz(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _checksum_version_1(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 over every array's name, type, shape and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.dtype.str} {arrays[name].shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
