"""One process writes: another is refused before it did any work, a forked child too, and a dead one stops nobody."""

import os
import subprocess
import sys

import pytest
from helpers.device_steps import snapshot
from helpers.paths import ROOT

from firmware_host import Device, DeviceError
from firmware_host.state.lock import lock_folder

OTHER = """
import os, sys
from firmware_host import Device
device = Device.open(sys.argv[1], runtime="numpy")
device.save()
print("saved", flush=True)
sys.stdin.read()
os._exit(0)  # without close()
"""


@pytest.fixture
def other(bundle):
    """Another process that saved and goes on holding the folder; `end()` lets it die, its lock not given back."""

    class Other:
        def __init__(self):
            command = [sys.executable, "-c", OTHER, str(bundle)]
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self.process.stdout.readline() == b"saved\n"

        def end(self):
            self.process.communicate()

    other = Other()
    yield other
    other.end()


def in_a_child(work):
    """Run `work()` in a forked child and return what it returned, or the message of its DeviceError."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                said = str(work())
            except DeviceError as error:
                said = f"refused: {error}"
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def changes(make, device, progress):
    images, labels = make.images(["blue"], 2)
    return {
        "add_class": lambda: device.add_class("blue"),
        "forget_class": lambda: device.forget_class("red"),
        "learn": lambda: device.learn(images, labels, progress=progress),
        "teach": lambda: device.teach(images[0], "blue"),
        "save": device.save,
    }


@pytest.mark.parametrize("change", ["add_class", "forget_class", "learn", "teach", "save"])
def test_whoever_must_wait_hears_it_before_any_work(make, bundle, other, change, monkeypatch):
    device = Device.open(bundle, runtime="numpy")
    before, done = snapshot(device), []
    monkeypatch.setattr(type(device._backbone), "__call__", lambda *_: done.append("an image was read"))
    with pytest.raises(DeviceError, match="is in use by another process: stop it or give another --state"):
        changes(make, device, lambda *call: done.append(call))[change]()
    assert done == []
    after = snapshot(device)
    assert (after.classes, after.generator) == (before.classes, before.generator)


@pytest.mark.parametrize("change", ["add_class", "forget_class", "learn", "teach", "save"])
def test_what_was_saved_since_is_not_overwritten(make, bundle, other, change, monkeypatch):
    other.end()
    stale = Device.open(bundle, runtime="numpy")
    with Device.open(bundle, runtime="numpy") as newer:
        newer.save()
    done = []
    monkeypatch.setattr(type(stale._backbone), "__call__", lambda *_: done.append("an image was read"))
    with pytest.raises(DeviceError, match=r"was changed by somebody else \(save 2, opened at 1\): open it again"):
        changes(make, stale, lambda *call: done.append(call))[change]()
    assert done == []


def test_reading_waits_for_nobody(make, bundle, other):
    device = Device.open(bundle, runtime="numpy")
    assert device.evaluate(*make.images(["red", "green"], 2))["accuracy"] == 1


def test_the_first_change_of_a_folder_that_is_there_shuts_others_out(make, bundle):
    Device.open(bundle, runtime="numpy").save()
    with Device.open(bundle, runtime="numpy") as device:
        device.add_class("blue")
        said = in_a_child(lambda: Device.open(bundle, runtime="numpy").add_class("white"))
        assert said.startswith("refused: state ")
        assert "in use by another process" in said
    said = in_a_child(lambda: Device.open(bundle, runtime="numpy").add_class("white"))
    assert said == "2"  # the slot: after close() others may


def test_a_folder_that_nobody_wrote_is_not_made_by_naming_a_class(bundle, tmp_path):
    device = Device.open(bundle, runtime="numpy")
    device.add_class("blue")
    assert not device.state_folder.exists()


def test_a_forked_child_is_another_process(bundle, tmp_path):
    folder = tmp_path / "state"
    with Device.open(bundle, folder, runtime="numpy") as parent:
        parent.save()
        said = in_a_child(lambda: Device.open(bundle, folder, runtime="numpy").save())
        assert said == f"refused: state {folder} is in use by another process: stop it or give another --state"
        again = Device.open(bundle, folder, runtime="numpy")  # of this process: it shares the lock
        assert again.save() == folder / "state.b.npz"
    said = in_a_child(lambda: Device.open(bundle, folder, runtime="numpy").save())
    assert said.startswith("refused: ")  # `again` holds it still
    again.close()
    said = in_a_child(lambda: Device.open(bundle, folder, runtime="numpy").save())
    assert said == str(folder / "state.a.npz")


def test_a_lock_is_free_when_its_last_user_is_gone(tmp_path):
    def free():
        return in_a_child(lambda: lock_folder(tmp_path) and "locked") == "locked"

    first, second = lock_folder(tmp_path), lock_folder(tmp_path / "." / "x" / "..")  # one folder under two names
    assert not free()
    first.release()
    assert not free()
    third = lock_folder(tmp_path)
    second.release()
    assert not free()
    third.release()
    assert free()
    fourth = lock_folder(tmp_path)
    assert not free()
    del fourth  # dropped, not released
    assert free()


def test_a_dead_owner_stops_nobody(make, bundle, other):
    other.end()
    with Device.open(bundle, runtime="numpy") as device:
        device.teach(make.images(["blue"], 1)[0][0], "blue")
        assert device.save().name == "state.b.npz"


def test_a_file_system_that_cannot_lock_is_named(bundle, monkeypatch, tmp_path):
    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(DeviceError, match=r"cannot be locked \(Function not implemented\): put it on a local file sys"):
        Device.open(bundle, tmp_path / "state", runtime="numpy").save()
    monkeypatch.undo()
    Device.open(bundle, tmp_path / "state", runtime="numpy").save()
