"""A state that moves: what an exported file carries along, and whose lessons those of an imported one are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from firmware_host.bundle import Bundle, ClassStatistics, DeviceError
from firmware_host.fleet.base import adopted, backbone_of, base_of, expected_of
from firmware_host.fleet.own import Own
from firmware_host.fleet.peers import Peers
from firmware_host.learning.start import start_scatter
from firmware_host.state import Snapshot

__all__ = ["imported", "with_peers"]


def imported(bundle: Bundle, snapshot: Snapshot, version: int) -> Snapshot:
    """Return a state of another file, its save number `version`, as that of a device with a number of its own.

    See `adopted`. A state whose bundle does not say what it starts with stays as it is.

    Raises:
        DeviceError: what it says of its lessons does not fit.
    """
    start = bundle.arrays("golden.npz", prefix="state.")
    if "surprise" in bundle.head or not {"class_mean", "class_count"} <= set(start):
        return snapshot
    statistics = ClassStatistics(start["class_mean"], start["class_count"], start_scatter(bundle))
    base = base_of(bundle, replace(snapshot, statistics=statistics))
    try:
        return adopted(snapshot, base, backbone_of(bundle), version)
    except DeviceError:
        raise
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DeviceError(f"the state does not say whole what it was taught ({error}): give another backup") from error


def with_peers(snapshot: Snapshot, folder: Path, bundle: Bundle) -> Snapshot:
    """Return a state with what other devices taught, from the folder it was read from, inside."""
    if snapshot.fleet is None:
        return snapshot
    own = Own.from_arrays(snapshot.fleet)
    held = Peers(folder, expected_of(bundle)).deltas
    own.peers = {**own.peers, **{device: delta.to_bytes() for device, delta in held.items()}}
    return replace(snapshot, fleet=own.arrays())
