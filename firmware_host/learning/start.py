"""What a device starts from where it has learned nothing yet."""

from __future__ import annotations

from typing import Any

import numpy as np

from firmware_host.bundle import Bundle, BundleError, ClassStatistics, DeviceError
from firmware_host.engines.find import Runtime, open_head
from firmware_host.engines.kept import KeptHead
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.engines.protocol import Array, Head
from firmware_host.fleet.own import new_token
from firmware_host.learning.surprise import noticing
from firmware_host.state import Snapshot

__all__ = ["bundle_snapshot", "generator_state", "start_head", "start_scatter", "start_snapshot"]


def start_head(bundle: Bundle, runtime: Runtime, threads: int) -> Head:
    """Return the bundle's head in its start state; raises DeviceError as `open_head`."""
    return noticing(bundle, KeptHead(open_head(bundle, runtime, threads), bundle.head))


def start_snapshot(bundle: Bundle, head: Head) -> Snapshot:
    """Return what the bundle itself knows, with the random numbers of seed 0."""
    state = head.get_state()
    statistics = ClassStatistics(state["class_mean"], state["class_count"], start_scatter(bundle))
    return Snapshot(state, statistics, bundle.classes, generator_state(0), device=new_token())


def bundle_snapshot(bundle: Bundle) -> Snapshot:
    """Return `start_snapshot` without an interpreter; raises BundleError where the bundle does not say its state."""
    state = bundle.arrays("golden.npz", prefix="state.")
    if not state.keys() >= bundle.state_shapes.keys():
        raise BundleError(f"{bundle.file('golden.npz')} has no start state of the head: convert the run again")
    return start_snapshot(bundle, NumpyHead(bundle.head, state))


def generator_state(seed: int) -> dict[str, Any]:
    """Return the state of fresh random numbers; raises DeviceError for a seed below 0."""
    if seed < 0:
        raise DeviceError(f"seed is {seed}: use 0 or more")
    return dict(np.random.default_rng(seed).bit_generator.state)


def start_scatter(bundle: Bundle) -> Array:
    """Return the scatter matrix [d, d] that replay starts with; zero where the bundle has no statistics."""
    d = bundle.feature_size
    if "statistics.npz" not in bundle.files:
        return np.zeros((d, d))
    arrays = bundle.arrays("statistics.npz")
    if "scatter" not in arrays or arrays["scatter"].shape != (d, d):
        raise BundleError(f"{bundle.file('statistics.npz')} has no scatter of shape [{d}, {d}]: convert the run again")
    return arrays["scatter"]
