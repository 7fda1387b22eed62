"""A state moves to a bundle with more class slots, as when a run is converted again because the slots ran out.

Dimensions: d features, C class slots.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.state.encoding import DamagedError, StateFile, decode
from firmware_host.state.snapshot import BANK_AXES, CLASS_AXES, Snapshot, from_arrays, head_key

__all__ = ["snapshot_for", "state_from_bytes"]


def snapshot_for(bundle: Bundle, file: StateFile) -> Snapshot:
    """Return what a state file holds, for `bundle`: its state, or one of the same backbone and head with fewer slots.

    Raises:
        DeviceError: it fits neither way.
    """
    if file.meta["bundle"] == bundle.model_identity:
        return file.snapshot(bundle)
    same_backbone = file.meta.get("backbone") == bundle.manifest["sha256"]["backbone.tflite"]
    if not same_backbone or file.meta.get("head") != head_key(bundle):
        what = "head" if same_backbone else "backbone"
        raise DeviceError(
            f"state file {file.path} was learned with another {what} than that of {bundle.path}, its features mean "
            "something else there: use the bundle it was learned with, or one of the same run and --recipe, "
            "or teach the new one the images again"
        )
    slots = len(file.arrays["statistics.count"])
    if slots > bundle.slots:
        raise DeviceError(
            f"state file {file.path} has {slots} class slots, {bundle.path} has {bundle.slots}: "
            f"train the run with --slots {slots} or more and convert it again"
        )
    missing = [name for name in bundle.classes if name not in file.meta["classes"]]
    if missing:
        raise DeviceError(
            f"state file {file.path} does not know {', '.join(missing)}, which {bundle.path} does: "
            "teach it these classes first, or start from the bundle"
        )
    arrays = dict(file.arrays)
    axes = {f"head.{name}": axis for name, axis in bundle.class_axes.items()}
    for name, axis in {**axes, **CLASS_AXES}.items():
        if name in arrays:
            arrays[name] = _padded(arrays[name], axis, bundle.slots)
    for name, axis in BANK_AXES.items() if "bank" in bundle.head else ():
        if name in arrays:
            arrays[name] = _padded(arrays[name], axis, int(bundle.head["bank"]["slots"]))
    return from_arrays(arrays, file.meta, bundle)


def state_from_bytes(content: bytes, bundle: Bundle) -> tuple[Snapshot, int]:
    """Return what the bytes of a state file hold, for `bundle`, and its generation; they may come from anybody.

    Raises:
        DeviceError: they are not whole, would take more memory than their own size, or do not fit.
    """
    try:
        # A state file is not compressed, so that what it takes is no more than what was sent.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in zipfile.ZipFile(io.BytesIO(content)).infolist()):
            raise DamagedError("it is compressed")
        file = decode(content, Path("sent"))
        return snapshot_for(bundle, file), file.generation
    except DeviceError:
        raise
    except Exception as error:  # NumPy, zipfile and a file that is not what it says raise many kinds for one cause
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeviceError(f"what was sent is not a whole state ({reason}): give a file that was exported") from error


def _padded(values: Array, axis: int, slots: int) -> Array:
    width = [(0, slots - size if place == axis else 0) for place, size in enumerate(values.shape)]
    return np.pad(values, width)
