"""State files of several devices, merged into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.engines.protocol import Head
from firmware_host.fleet.base import backbone_of, base_of, check_sharing, deviations, expected_of, own_of
from firmware_host.fleet.check import checked
from firmware_host.fleet.delta import Delta
from firmware_host.fleet.member import take_over
from firmware_host.fleet.merge import Merged, merged, newest
from firmware_host.fleet.own import Own
from firmware_host.learning.start import start_snapshot
from firmware_host.learning.working_state import WorkingState
from firmware_host.state import read_file, snapshot_for, to_bytes

__all__ = ["MergedFile", "merge_files"]


class MergedFile(NamedTuple):
    """A merged state.

    Attributes:
        content: the bytes of a state file; the same for the same deltas.
        deltas: the newest of each device, by its number.
        merged: what they amount to.
        withheld: classes of the states that have too few images, by the file's name.
        steps: training steps.
    """

    content: bytes
    deltas: dict[str, Delta]
    merged: Merged
    withheld: dict[str, list[str]]
    steps: int


def merge_files(bundle: Bundle, head: Head, files: Sequence[Path], min_images: int, noise: float) -> MergedFile:
    """Merge what each state adds to its bundle; a merged state is taken for all devices whose lessons are in it.

    Args:
        bundle: that of the states, or one of the same run with more slots.
        head: its head, in its start state.
        files: state files.
        min_images: images of a class from which it counts.
        noise: see `Own.delta`.

    Raises:
        DeviceError: a file is damaged or of another bundle, or two devices have one number.
    """
    check_sharing(bundle)
    start = start_snapshot(bundle, head)
    base, backbone, expected = base_of(bundle, start), backbone_of(bundle), expected_of(bundle)
    found: list[tuple[Path, Delta]] = []
    withheld: dict[str, list[str]] = {}
    for path in files:
        file = read_file(path)
        snapshot = snapshot_for(bundle, file)
        try:
            own = own_of(snapshot, base, file.generation)
            told = own.tell(snapshot.device, backbone, min_images, noise)
            mine = [*([] if told is None else [told]), *(Delta.from_bytes(content) for content in own.peers.values())]
            found += [(path, checked(delta, expected)) for delta in mine]
        except DeviceError as error:
            raise DeviceError(f"state file {path}: {error}") from None
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DeviceError(f"state file {path}: {error}") from None
        few = [name for name in own.parts if told is None or name not in told.classes]
        if few:
            withheld[str(path)] = few
    _check_numbers(found)
    deltas = newest(delta for _, delta in found)
    amount = merged(base, deltas.values(), bundle.slots)
    empty = Own(deviations(base))
    empty.peers = {device: delta.to_bytes() for device, delta in deltas.items()}
    begun = replace(start, device=amount.fingerprint[:32], fleet=empty.arrays())
    working = WorkingState(bundle, head, begun, lambda raw: raw)
    steps = take_over(working, start, base, amount)
    return MergedFile(to_bytes(working.settled(), bundle, len(deltas)), deltas, amount, withheld, steps)


def _check_numbers(found: Sequence[tuple[Path, Delta]]) -> None:
    """Raise DeviceError where two states of one device, of the same version, differ."""
    seen: dict[tuple[str, int], tuple[Path, Delta]] = {}
    for path, delta in found:
        other, before = seen.setdefault((delta.device, delta.version), (path, delta))
        if before.digest != delta.digest:
            raise DeviceError(
                f"{other} and {path} differ, and both are version {delta.version} of device {delta.device}: two "
                "devices have one number, as after a copy; merge one of them, or import the other one's state first"
            )
