"""What a microcontroller knows, as the bytes that its firmware exports and imports (`keras_cbpnet/export/micro/cpp`).

    16 bytes      "CBPN", the bundle, the state of the board's random numbers, FNV-1a over all that follows: uint32
    variables     float32, those that the manifest lists under micro.variables, in that order
    bank          total, losses, count, mean, the lower triangle of scatter, rows, factor; class c has slot c

All little-endian. Dimensions: d features, C class slots.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.bundle import Bundle, ClassStatistics, DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.shared.bank import BANK
from firmware_host.state.snapshot import Snapshot

__all__ = ["from_board", "is_of_board", "to_board"]

MAGIC = b"CBPN"
HEADER = struct.Struct("<4sIII")  # magic, bundle, random numbers, checksum
BANK_STATE = ("total", "losses", "count", "mean", "scatter", "rows", "factor")
SLOTS = ("count", "mean", "rows", "factor")  # those with an axis of slots, the first one


def is_of_board(file: Path) -> bool:
    """Return whether a file begins as those of a board do."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(MAGIC)) == MAGIC
    except OSError:  # whoever opens it says so
        return False


def to_board(snapshot: Snapshot, bundle: Bundle) -> bytes:
    """Return what a board imports to know what `snapshot` does, byte for byte as it would export it.

    Raises:
        DeviceError: the bundle is not for microcontrollers, or this device's camera has an offset, which a board lacks.
    """
    micro = _micro(bundle)
    if snapshot.camera is not None and np.any(snapshot.camera["offset"]):
        raise DeviceError("this device is calibrated for its camera, a board is not: use calibrate --reset first")
    body = b"".join(np.asarray(snapshot.head[name], "<f4").tobytes() for name in micro["variables"])
    if bundle.bank_shapes:
        body += _packed(snapshot.bank or {}, bundle)
    return HEADER.pack(MAGIC, int(micro["bundle"]), snapshot.board or 1, _checksum(body)) + body


def from_board(content: bytes, bundle: Bundle, before: Snapshot) -> Snapshot:
    """Return what a board knows; what it does not keep is as in `before`, and a new class is called after its slot.

    Raises:
        DeviceError: the bytes are damaged or of another bundle, or the bundle is not for microcontrollers.
    """
    micro, shapes = _micro(bundle), bundle.state_shapes
    sizes = [4 * int(np.prod(shapes[name])) for name in micro["variables"]]
    bank_bytes = len(_packed(bundle.bank() or {}, bundle)) if bundle.bank_shapes else 0
    if len(content) != HEADER.size + sum(sizes) + bank_bytes:
        wanted = HEADER.size + sum(sizes) + bank_bytes
        raise DeviceError(f"the board's state has {len(content)} bytes, this bundle's have {wanted}: copy it again")
    _, identity, board, checksum = HEADER.unpack_from(content)
    if identity != micro["bundle"]:
        raise DeviceError(
            f"the board's state is of the bundle {identity:08x}, {bundle.path} is {micro['bundle']:08x}: give one of a "
            "board with this bundle"
        )
    if checksum != _checksum(content[HEADER.size :]) or not board:
        raise DeviceError("the board's state is damaged, its checksum does not hold: copy it again")
    head, place = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, HEADER.size
    for name, size in zip(micro["variables"], sizes):
        head[name] = np.frombuffer(content, "<f4", size // 4, place).astype(np.float32).reshape(shapes[name])
        place += size
    known = head["class_count"] > 0
    head["class_mask"] = known.astype(np.float32)
    classes = before.classes
    for slot in range(len(classes), int(known.nonzero()[0].max(initial=-1)) + 1):
        classes = (*classes, f"class {slot}")
    statistics = ClassStatistics(head["class_mean"], head["class_count"], before.statistics.scatter)
    bank = _unpacked(content[place:], bundle, before.bank or bundle.bank() or {}) if bank_bytes else None
    return replace(
        before, head={**before.head, **head}, statistics=statistics, classes=classes, bank=bank, board=board,
        buffer=None, pending=None,
    )  # fmt: skip


def _micro(bundle: Bundle) -> dict[str, Any]:
    found = bundle.manifest.get("micro")
    if found is None:
        raise DeviceError(f"{bundle.path} is not for microcontrollers: convert the run with --target micro")
    return dict(found)


def _packed(bank: dict[str, Array], bundle: Bundle) -> bytes:
    """Return the bank's part; whichever slot a class has here, class c has slot c there."""
    bound = np.flatnonzero(bank["binding"])
    slots = bank["binding"][bound] - 1
    packed = {"scatter": bank["scatter"][np.tril_indices(bundle.feature_size)]}
    for name in BANK_STATE:
        value = packed.get(name, bank[name])
        if name in SLOTS:
            value = np.zeros((bundle.slots, *value.shape[1:]), value.dtype)
            value[bound] = bank[name][slots]
        packed[name] = value
    return b"".join(packed[name].astype(np.dtype(BANK[name][1]).newbyteorder("<")).tobytes() for name in BANK_STATE)


def _unpacked(content: bytes, bundle: Bundle, before: dict[str, Array]) -> dict[str, Array]:
    bank, place, d = {name: value.copy() for name, value in before.items()}, 0, bundle.feature_size
    triangle = np.tril_indices(d)
    for name in BANK_STATE:
        shape = (len(triangle[0]),) if name == "scatter" else bundle.bank_shapes[name]
        if name in SLOTS:
            shape = (bundle.slots, *shape[1:])
        kind = np.dtype(BANK[name][1]).newbyteorder("<")
        count = int(np.prod(shape, dtype=np.int64))
        value = np.frombuffer(content, kind, count, place).astype(BANK[name][1]).reshape(shape)
        place += value.nbytes
        if name == "scatter":
            bank[name][triangle] = value
            bank[name].T[triangle] = value
        elif name in SLOTS:
            bank[name][...] = 0
            bank[name][: bundle.slots] = value
        else:
            bank[name] = value
    slots = np.arange(bundle.slots, dtype=np.int32)
    bank["binding"] = np.where(bank["count"][: bundle.slots] > 0, slots + 1, 0).astype(np.int32)
    return bank


def _checksum(content: bytes) -> int:
    """Return FNV-1a of bytes."""
    found = 2166136261
    for byte in content:
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return found
