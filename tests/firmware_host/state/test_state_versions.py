"""States of other schema versions: the older one is migrated and kept, others are refused."""

from pathlib import Path

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.bundle import DeviceError
from firmware_host.state import StateFolder

VERSION_1 = Path(__file__).parents[1] / "golden" / "plain" / "state_1.npz"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_schema_version_1_is_migrated_and_kept(opened, tmp_path):
    """The file was written by version 0.1.0 with the tiny bundle, after six images of a new class."""
    content = VERSION_1.read_bytes()
    old = tmp_path / "tiny.state" / "state.npz"
    old.parent.mkdir()
    old.write_bytes(content)
    device = Device.open(opened.path, runtime="numpy")
    assert device.classes == ("red", "green", "blue")
    assert device._working.snapshot().statistics.count.tolist() == [20, 20, 6, 0]
    with np.load(old) as file:
        np.testing.assert_array_equal(device._working.snapshot().head["w1"], file["head.w1"])
    assert names(old.parent) == ["state.npz"]
    device.save()
    assert names(old.parent) == ["lock", "state.a.npz", "state.npz.migrated-1"]
    assert (old.parent / "state.npz.migrated-1").read_bytes() == content
    np.testing.assert_array_equal(
        StateFolder(old.parent, opened).read().head["w1"],
        Device.open(opened.path, runtime="numpy")._working.head.get_state()["w1"],
    )


@pytest.mark.parametrize("offset", range(40, 8000, 997))
def test_a_damaged_state_of_schema_version_1_is_refused(opened, tmp_path, offset):
    content = VERSION_1.read_bytes()
    (tmp_path / "state.npz").write_bytes(content[:offset])
    with pytest.raises(DeviceError, match=r"is damaged \(state.npz: .*\): import a backup"):
        StateFolder(tmp_path, opened).read()


def test_another_schema_version_is_refused(opened, learned, tmp_path, monkeypatch):
    monkeypatch.setattr("firmware_host.state.encoding.STATE_SCHEMA_VERSION", 7)
    StateFolder(tmp_path, opened).write(learned)
    monkeypatch.undo()
    before = names(tmp_path)
    with pytest.raises(DeviceError, match="schema version 7, this firmware_host reads 1 and 2: install the matching"):
        StateFolder(tmp_path, opened).read()
    assert names(tmp_path) == before
