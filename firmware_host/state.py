"""What the device has learned, in one file of a folder: complete and checked, or refused.

A write is a new file, fsync, rename: after a power cut the folder holds the old state or the new one.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.bundle import Bundle, ClassStatistics, DeviceError, write_atomically
from firmware_host.protocol import Array, State

__all__ = ["STATE_SCHEMA_VERSION", "LearnedState", "default_folder", "read_state", "write_state"]

STATE_SCHEMA_VERSION = 1
FILE = "state.npz"
REMEDY = "restore a backup of it, or remove it to start again from the bundle"


@dataclass(frozen=True)
class LearnedState:
    """Everything a device needs to go on where it stopped.

    `head`: the head's tensors; `statistics`: class statistics for replay; `classes`: names in slot order;
    `generator`: state of the random numbers (`numpy.random.Generator.bit_generator.state`).
    """

    head: State
    statistics: ClassStatistics
    classes: tuple[str, ...]
    generator: dict[str, Any]


def default_folder(bundle: Path) -> Path:
    """Return the folder beside the bundle where its state is kept: the bundle's path with `.state` appended."""
    path = bundle.resolve()
    return path.with_name(path.name + ".state")


def read_state(folder: Path, bundle: Bundle) -> LearnedState | None:
    """Read what was learned with `bundle`; None when `folder` holds nothing yet.

    It belongs to the bundle when backbone and head are the same; the other files may have been written anew.
    Raises DeviceError when the file is damaged, belongs to another bundle or has another schema version.
    """
    if folder.exists() and not folder.is_dir():
        raise DeviceError(f"state {folder} is not a folder: give another --state")
    path = folder / FILE
    if not path.exists():
        return None
    arrays, meta = _read_file(path)
    if meta["bundle"] != bundle.model_identity:
        raise DeviceError(
            f"state {folder} belongs to another bundle ({meta['bundle'][:12]}, {bundle.path} is "
            f"{bundle.model_identity[:12]}): give the state of this bundle with --state"
        )
    head = {name: arrays[f"head.{name}"] for name in bundle.state_shapes if f"head.{name}" in arrays}
    if {name: value.shape for name, value in head.items()} != bundle.state_shapes:
        raise DeviceError(f"state {path} does not fit the head of {bundle.path}: {REMEDY}")
    mean, count, scatter = (arrays[f"statistics.{name}"] for name in ("mean", "count", "scatter"))
    statistics = ClassStatistics(mean, count, scatter)
    return LearnedState(head, statistics, tuple(meta["classes"]), meta["generator"])


def write_state(folder: Path, bundle: Bundle, state: LearnedState) -> Path:
    """Write `state` into `folder` atomically, making the folder if need be; return the file's path.

    Raises DeviceError when the folder cannot be written; an older state is then untouched.
    """
    arrays = {f"head.{name}": value for name, value in state.head.items()}
    arrays.update({f"statistics.{name}": value for name, value in state.statistics.arrays().items()})
    meta = {
        "schema_version": STATE_SCHEMA_VERSION,
        "bundle": bundle.model_identity,
        "classes": list(state.classes),
        "generator": state.generator,
    }
    arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
    arrays["sha256"] = np.array(_checksum(arrays))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        message = f"state {path} cannot be written ({error.strerror}): free space or give another --state"
        raise DeviceError(message) from error
    return path


def _read_file(path: Path) -> tuple[State, dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        checksum = str(arrays.pop("sha256"))
        meta = json.loads(str(arrays["meta"]))
        version = meta["schema_version"]
    except Exception as error:  # zipfile, zlib, json and NumPy raise many kinds for one cause
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeviceError(f"state {path} is damaged ({reason}): {REMEDY}") from error
    if checksum != _checksum(arrays):
        raise DeviceError(f"state {path} is damaged (its checksum does not hold): {REMEDY}")
    if version != STATE_SCHEMA_VERSION:
        raise DeviceError(
            f"state {path} has schema version {version!r}, this firmware_host reads {STATE_SCHEMA_VERSION}: "
            "install the matching keras-cbpnet, or remove it to start again from the bundle"
        )
    return arrays, meta


def _checksum(arrays: dict[str, Array]) -> str:
    """SHA-256 over every array's name, type, shape and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.dtype.str} {arrays[name].shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
