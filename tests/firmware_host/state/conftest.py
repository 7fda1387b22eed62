"""A state, and a folder that holds an older and a newer one."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_host.bundle import ClassStatistics, read_bundle
from firmware_host.state import Snapshot, StateFolder
from firmware_host.state.buffer import ReplayBuffer

OLD, NEW = ("red", "green", "größer"), ("red", "green", "größer", "newer")


@pytest.fixture
def opened(bundle):
    return read_bundle(bundle)


@pytest.fixture
def learned(opened):
    rng = np.random.default_rng(0)
    head = {name: rng.normal(size=shape).astype(np.float32) for name, shape in opened.state_shapes.items()}
    statistics = ClassStatistics(rng.normal(size=(4, 6)), [1, 2, 3, 0], rng.normal(size=(6, 6)))
    buffer = ReplayBuffer(5, rng.integers(-128, 128, (3, 6)).astype(np.int8), [0, 1, 1], [4, 5, 6, 0])
    pending = (rng.integers(-128, 128, (2, 6)).astype(np.int8), np.array([2, 1], np.int32))
    return Snapshot(head, statistics, OLD, dict(rng.bit_generator.state), buffer, pending, 3)


@pytest.fixture
def two(opened, learned, tmp_path):
    """A folder whose slot a holds the older state and slot b the newer one."""
    folder = StateFolder(tmp_path / "state", opened)
    folder.write(learned)
    folder.write(replace(learned, classes=NEW))
    folder.close()
    return tmp_path / "state"
