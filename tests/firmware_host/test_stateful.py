"""A device through any life: after whatever was done to it, it knows what a plain model of it knows.

The model is a list of lessons (feature, class). Statistics come from it by their definition, in NumPy; predictions must
be the same bit by bit before and after what was saved is opened again.
"""

import fcntl
import gc
import itertools
import os
import weakref
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from helpers.device_model import SLOTS, Model
from helpers.device_steps import everything, feature_of, snapshot
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from firmware_host import Device, DeviceError
from firmware_host.bundle import read_bundle
from firmware_host.cli import main
from firmware_host.state import StateFolder

NAMES = ("red", "green", "blue", "white", "sand", "größe")
names = st.sampled_from(NAMES)
lessons = st.tuples(names, st.integers(0, 7))  # what the image is called, and which image it is, of any colour
replays = st.sampled_from(["statistics", "none", "buffer:3", "buffer:5"])


class Life(RuleBasedStateMachine):
    """What may happen to a device, and what must be true after each of it."""

    bundle = images = probe = folder = None  # given by the test
    lives = itertools.count()

    @initialize()
    def begin(self):
        self.state = self.folder / f"life{next(self.lives)}"
        self.exported = None
        self.reset()
        self.open()

    def reset(self):
        self.saved = None  # (model, predictions, everything) on disk
        self.saved_earlier = None  # what was saved when the last lesson began, where another process can go back to it

    def open(self):
        self.device = Device.open(self.bundle, self.state, runtime="numpy")
        self.base, self.earlier = self.saved, self.saved_earlier
        if self.saved is None:
            self.model = Model(snapshot(self.device))
            self.start = deepcopy(self.model), None, everything(self.device)
            return
        self.model = deepcopy(self.saved[0])
        assert self.predictions() == self.saved[1]
        np.testing.assert_equal(everything(self.device), self.saved[2])

    def predictions(self):
        return [self.device.predict(image)[:2] for image in self.probe] if self.device.classes else None

    def refused(self, call, *arguments, **options):
        """Call what must be refused with one line, and change nothing."""
        before = snapshot(self.device)
        try:  # not pytest.raises, whose value keeps the device alive through the traceback: see `kill`
            line = call(*arguments, **options)
        except DeviceError as error:
            line = str(error)
        assert isinstance(line, str)
        assert len(line.splitlines()) == 1
        after = snapshot(self.device)
        assert (before.classes, before.generator) == (after.classes, after.generator)
        assert all(np.array_equal(value, after.head[name]) for name, value in before.head.items())

    def lesson(self):
        """Note what is known before a lesson that is about to happen."""
        return (deepcopy(self.model), None, everything(self.device)), self.base or self.start

    @rule()
    def undo(self):
        if self.earlier is None:
            self.refused(self.device.undo)
            return
        self.device.undo()
        self.model, self.base = deepcopy(self.earlier[0][0]), self.earlier[1]
        np.testing.assert_equal(everything(self.device), self.earlier[0][2])
        self.base = None if self.base is self.start else self.base
        self.earlier = None

    @rule(taught=st.lists(lessons, min_size=1, max_size=5), replay=replays, epochs=st.integers(1, 3))
    def learn(self, taught, replay, epochs):
        labels, images = [name for name, _ in taught], [self.images[number] for _, number in taught]
        if not self.model.spare(labels):
            self.refused(self.device.learn, images, labels, replay)
            return
        before = self.lesson()
        result = self.device.learn(images, labels, replay, epochs)
        self.earlier = before
        assert (result["images"], result["rolled_back"]) == (len(taught), 0)
        for name, image in zip(labels, images):
            self.model.teach(name, feature_of(image))

    @rule(lesson=lessons, replay=replays)
    def teach(self, lesson, replay):
        name, image = lesson[0], self.images[lesson[1]]
        if not self.model.spare([name]):
            self.refused(self.device.teach, image, name, replay)
            return
        before, rolled_back = self.lesson(), self.device.rolled_back
        result = self.device.teach(image, name, replay)
        assert self.device.rolled_back - rolled_back == result["rolled_back"]
        if not result["rolled_back"]:  # a label that would break the head is rolled back as a whole
            self.model.teach(name, feature_of(image))
            self.earlier = before

    @rule(name=names)
    def add_class(self, name):
        if name in self.model.lessons or not self.model.spare([name]):
            self.refused(self.device.add_class, name)
            return
        self.earlier = self.lesson()
        self.model.add(name)
        assert self.device.add_class(name) == list(self.model.lessons).index(name)

    @rule(name=names)
    def forget_class(self, name):
        if name not in self.model.lessons:
            self.refused(self.device.forget_class, name)
            return
        self.earlier = self.lesson()
        self.device.forget_class(name)
        self.model.forget(name)

    @rule()
    def save(self):
        self.device.save()
        self.saved = self.base = deepcopy(self.model), self.predictions(), everything(self.device)
        self.saved_earlier = None if self.earlier is None else (self.earlier[1], self.earlier[1])

    @rule()
    def close_and_open(self):
        self.device.close()
        self.open()

    @rule()
    def kill(self):
        """The device is gone without a word: its lock must stop nobody."""
        device = weakref.ref(self.device)
        del self.device
        if device() is not None:
            gc.collect()  # only that frees what refers to itself
        assert device() is None, f"the device is kept by {gc.get_referrers(device())}"
        lock = self.state / "lock"
        if lock.exists():
            with lock.open("r+b") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    holders = Path("/proc/locks").read_text() if Path("/proc/locks").exists() else "unknown"
                    number = os.fstat(file.fileno()).st_ino
                    raise AssertionError(f"inode {number} is still locked; all locks: {holders}") from None
        self.open()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def export(self):
        """What was saved goes into a file, also while a device goes on learning."""
        file = self.state / f"backup{next(self.lives)}.npz"
        assert self.command("export", file) == 0
        self.exported = file, deepcopy(self.saved)

    @precondition(lambda self: self.exported is not None)
    @rule()
    def bring_back(self):
        self.device.close()
        assert self.command("import", self.exported[0]) == 0
        self.saved, self.saved_earlier = deepcopy(self.exported[1]), None
        brought = StateFolder(self.state, read_bundle(self.bundle)).read()
        assert brought.device != self.saved[2]["device"]  # an id of its own, so that no lesson is counted twice
        self.saved[2].update(device=brought.device, fleet=brought.fleet)
        self.open()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def start_again(self):
        self.device.close()
        assert self.command("reset") == 0
        self.reset()
        self.open()

    def command(self, action, *file):
        return main(["state", str(self.bundle), action, *map(str, file), "--state", str(self.state), "--json"])

    @invariant()
    def knows_what_the_model_knows(self):
        now = snapshot(self.device)
        count, mean, scatter, mask = self.model.statistics()
        assert self.device.classes == now.classes == tuple(self.model.lessons)
        np.testing.assert_array_equal(now.statistics.count, count)
        np.testing.assert_array_equal(now.head["class_count"], count)
        np.testing.assert_allclose(now.statistics.mean, mean, atol=1e-6)
        np.testing.assert_allclose(now.head["class_mean"], mean, atol=1e-5)
        np.testing.assert_allclose(now.statistics.scatter, scatter, atol=1e-5)
        np.testing.assert_array_equal(now.head["class_mask"], mask)
        if now.bank is not None:
            bound = now.bank["binding"] > 0
            assert [name for slot, name in enumerate(now.classes) if bound[slot]] == [
                name for slot, name in enumerate(now.classes) if count[slot]
            ]
            slots = now.bank["binding"][bound] - 1
            assert len(set(slots)) == len(slots)
        waiting = [] if now.pending is None else now.pending[1]
        kept = [] if now.buffer is None else now.buffer.label
        assert set(waiting) | set(kept) <= set(range(len(now.classes)))

    @invariant()
    def the_disk_holds_what_was_saved(self):
        found = StateFolder(self.state, read_bundle(self.bundle)).read()
        if self.saved is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found.statistics.count, self.saved[0].statistics()[0])

    def teardown(self):
        if hasattr(self, "device"):
            self.device.close()


@pytest.mark.parametrize(
    ("bank", "lives"),
    [
        pytest.param(False, 40, marks=pytest.mark.slow, id="block"),
        pytest.param(True, 40, marks=pytest.mark.slow, id="block and bank"),
        pytest.param(True, 3, id="a few"),
    ],
)
def test_any_life_of_a_device(make, tmp_path, capsys, bank, lives):
    class Here(Life):
        bundle = make.write_bundle(tmp_path / "b", slots=SLOTS, bank=bank)
        images = make.images(["red", "green", "blue", "white"], 2, seed=3)[0]
        probe = make.images(["red", "green", "blue", "white"], 1, seed=4)[0]
        folder = tmp_path

    limits = settings(
        derandomize=True, deadline=None, max_examples=lives, stateful_step_count=20, phases=[Phase.generate]
    )
    run_state_machine_as_test(Here, settings=limits)  # without shrinking: it would take minutes
