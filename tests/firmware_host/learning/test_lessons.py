"""The last lesson is taken back exactly: the bytes of the state are those of before, in this process or another."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from firmware_host import Device, DeviceError
from firmware_host.bundle import read_bundle
from firmware_host.state import StateFolder
from firmware_host.state.snapshot import to_arrays

SLOW = pytest.mark.slow


@pytest.fixture(params=[pytest.param(False, marks=SLOW, id="block"), pytest.param(True, id="bank")])
def bundle(make, tmp_path, request):
    return make.write_bundle(tmp_path / "b", bank=request.param)


def opened(bundle):
    return Device.open(bundle, runtime="numpy")


def checksum(arrays):
    """Return the checksum of a state file of schema version 1."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def content(device):
    """Return a checksum of all that a state file holds of what the device knows, byte by byte; its id is a secret."""
    return checksum(to_arrays(dataclasses.replace(device._working.snapshot(), device="")))


def files(device):
    return {path.name for path in device.state_folder.iterdir()} - {"lock"}


LESSONS = {
    "learn": lambda device, images, labels: device.learn(images, labels, epochs=2),
    "learn and keep": lambda device, images, labels: device.learn(images, labels, "buffer:4", epochs=1),
    "learn without replay": lambda device, images, labels: device.learn(images, labels, "none", epochs=1),
    "learn with saves": lambda device, images, labels: device.learn(images, labels, epochs=2, save_every=1),
    "teach": lambda device, images, labels: device.teach(images[0], labels[0]),
    "add a class": lambda device, images, labels: device.add_class("violet"),
    "forget": lambda device, images, labels: device.forget_class("red"),
    "rename": lambda device, images, labels: device.rename_class("red", "crimson"),
    "calibrate": lambda device, images, labels: device.camera.calibrate(*KNOWN),
    "reset the camera": lambda device, images, labels: device.camera.reset(),
}
QUICK = ("learn with saves", "teach", "forget", "calibrate")
KNOWN = None


@pytest.fixture(autouse=True)
def known_images(make, monkeypatch):
    images, labels = make.images(["red", "green"], 3, seed=8)
    monkeypatch.setitem(globals(), "KNOWN", ([image // 2 for image in images], labels))


@pytest.mark.parametrize("lesson", [name if name in QUICK else pytest.param(name, marks=SLOW) for name in LESSONS])
@pytest.mark.parametrize(
    "first", [pytest.param(False, id="after another"), pytest.param(True, marks=SLOW, id="as the first")]
)
def test_undo_brings_back_every_byte(make, bundle, lesson, first):
    images, labels = make.images(["red", "blue"], 3)
    with opened(bundle) as device:
        if not first:
            device.learn(images, labels, "buffer:3", epochs=1)
            device.camera.calibrate(*KNOWN)
            device.save()
        before = content(device)
        LESSONS[lesson](device, *make.images(["blue", "green"], 3, seed=7))
        after = content(device)
        assert (after == before) == (first and lesson == "reset the camera")
        device.undo()
        assert content(device) == before
        with pytest.raises(DeviceError, match=r"^nothing to undo in .*taken back already$"):
            device.undo()

        LESSONS[lesson](device, *make.images(["blue", "green"], 3, seed=7))
        assert content(device) == after  # the random numbers went back too
        device.save()
        assert files(device) <= {"state.a.npz", "state.b.npz", "state.earlier.npz"}
        saved = content(device)
    with opened(bundle) as device:
        assert content(device) == saved
        device.undo()
        assert content(device) == before
        device.save()
        assert files(device) <= {"state.a.npz", "state.b.npz"}
    with opened(bundle) as device:
        assert content(device) == before
        with pytest.raises(DeviceError, match="nothing to undo"):
            device.undo()


def test_of_lessons_saved_together_a_process_takes_back_the_last_and_another_process_all(make, bundle):
    images, _ = make.images(["blue"], 3)
    with opened(bundle) as device:
        device.teach(images[0], "red")
        device.save()
        one = content(device)
        device.teach(images[1], "blue")
        two = content(device)
        device.teach(images[2], "blue")
        device.save()
        device.undo()
        assert content(device) == two
    with opened(bundle) as device:
        device.save()  # nothing new: the lesson before is still the last
        device.save()
        assert "state.earlier.npz" in files(device)
        device.undo()
        assert content(device) == one


def test_lessons_given_as_one_are_taken_back_together(make, bundle):
    images, _ = make.images(["blue"], 4)
    with opened(bundle) as device:
        device.teach(images[0], "red")
        device.save()
        before = content(device)
        with device.as_one_lesson():
            for image in images:
                device.teach(image, "blue")
                device.save()
        last = content(device)
        device.teach(images[0], "red")
        device.undo()
        assert content(device) == last
    with opened(bundle) as device:
        device.undo()
        assert content(device) == before


def test_a_lesson_that_fails_is_none(make, bundle, monkeypatch):
    images, labels = make.images(["blue"], 3)
    with opened(bundle) as device:
        before = content(device)
        device.learn(images, labels, epochs=1)
        after = content(device)
        for bad in (lambda: device.teach("nothing.png", "blue"), lambda: device.forget_class("grey")):
            with pytest.raises(DeviceError):
                bad()
        train = device._working.head.train
        monkeypatch.setattr(device._working.head, "train", lambda *a: train(*a)._replace(loss=float("nan")))
        assert device.teach(images[0], "blue")["rolled_back"] > 0
        with device.as_one_lesson():  # in which the first is rolled back
            assert device.teach(images[0], "blue")["rolled_back"] > 0
            monkeypatch.setattr(device._working.head, "train", train)
            device._working.rolled_back = 0
            assert content(device) == after
            device.teach(images[0], "blue")
            device.teach(images[1], "blue")
        device.undo()
        assert content(device) == after
        device.learn(images, labels, epochs=1)
        with pytest.raises(DeviceError):
            device.learn(images, ["sand", "white", "black"])
        device.undo()
        assert content(device) == after != before


def test_a_lesson_that_is_cut_short_after_a_save_is_taken_back_too(make, bundle):
    images, labels = make.images(["blue"], 6)

    def stop(what, done, total):
        if what == "training" and done == 5:
            raise KeyboardInterrupt

    with opened(bundle) as device:
        device.teach(images[0], "red")
        device.save()
        before = content(device)
        with pytest.raises(KeyboardInterrupt):
            device.learn(images, labels, epochs=4, progress=stop, save_every=2)
        assert content(device) != before
        device.undo()
        assert content(device) == before
    with opened(bundle) as device:
        device.undo()
        assert content(device) == before


class Killed(BaseException):
    """The power is cut."""


@SLOW
def test_cut_off_at_any_file_operation_the_last_saved_lesson_can_be_taken_back(make, bundle, monkeypatch):
    """Each renaming, writing and removing is where the device dies, before it or after it."""
    images, labels = make.images(["blue", "red"], 3)

    def live(device, seen):
        """Two lessons, the second with saves on its way; note what is known when each begins, ends and is saved."""
        seen.append(content(device))
        device.teach(images[0], "blue")
        device.save()
        seen.append(content(device))
        device.learn(images, labels, epochs=2, save_every=1)
        device.save()

    with opened(bundle) as device:
        knowing = []
        live(device, knowing)
    begun = set(knowing)
    calls, survived, undone = [0, None], 0, set()

    def counted(function):
        def call(*arguments, **options):
            calls[0] += 1
            if calls[0] == calls[1]:
                raise Killed
            result = function(*arguments, **options)
            calls[0] += 1
            if calls[0] == calls[1]:
                raise Killed
            return result

        return call

    for name in ("replace", "fsync", "rename"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    for moment in range(1, 1000):
        state = bundle.with_name(f"state{moment}")
        calls[:] = [0, moment]
        device = Device.open(bundle, state, runtime="numpy")
        died = False
        try:
            live(device, [])
        except Killed:
            died = True
        calls[1] = None
        device.close()
        folder = StateFolder(state, read_bundle(bundle))
        if folder.read() is not None:
            with Device.open(bundle, state, runtime="numpy") as again:
                assert content(again) not in (knowing[0],)
                again.undo()
                assert content(again) in begun
                undone.add(content(again))
                survived += 1
        if not died:
            break
    assert not died
    assert moment > 40
    assert survived > 30
    assert undone == begun


def test_a_save_that_is_lost_cannot_be_brought_back(make, bundle):
    images, _ = make.images(["blue"], 3)
    with opened(bundle) as device:
        for image in images:
            device.teach(image, "blue")
            device.save()
        [older] = [path for path in device.state_folder.glob("state.?.npz") if "state.b" in path.name]
        older.write_bytes(older.read_bytes()[:-40])
    with opened(bundle) as device:
        before = content(device)
        with pytest.raises(DeviceError, match="does not hold save 2 any more"):
            device.undo()
        assert content(device) == before


@SLOW
def test_a_state_of_the_first_version_counts_as_nothing_saved(make, bundle):
    images, _ = make.images(["blue"], 1)
    with opened(bundle) as device:
        device.teach(images[0], "blue")
        device.save()
        state = device.state_folder
    with np.load(state / "state.a.npz") as file:
        arrays = dict(file)
    (state / "state.a.npz").unlink()
    del arrays["written"], arrays["running"]
    arrays["meta"] = np.array(json.dumps({**json.loads(str(arrays["meta"])), "schema_version": 1}))
    np.savez(state / "state.npz", **arrays, sha256=np.array(checksum(arrays)))
    with opened(bundle) as device:
        before = content(device)
        device.teach(images[0], "blue")
        device.save()
        device.undo()
        assert content(device) == before
    with opened(bundle) as device, pytest.raises(DeviceError, match="nothing to undo"):
        device.undo()
