"""Killed at any moment while it learns, a device starts again and has all that was saved."""

import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.paths import ROOT

from firmware_host import Device
from firmware_host.learning.teaching import STEPS_YOUNG

LEARNER = """
import os, sys
import numpy as np
from firmware_host import Device

images = list(np.load(sys.argv[2]))


def live(number):
    device = Device.open(sys.argv[1], runtime="numpy")
    save = device.save

    def save_and_say():
        save()
        os.write(1, b"step %d\\n" % int(device._working.head.get_state()["step"]))

    device.save = save_and_say
    os.write(1, b"running now\\n")
    while True:  # one at a time, and all at once with saves on the way
        if number % 2:
            device.learn(images[:6], ["red", "green", "blue"] * 2, epochs=2, save_every=2)
        else:
            device.teach(images[number % len(images)], ("red", "green", "blue")[number % 3])
            device.save()
        number += 1


while True:  # one life: forked, so that three hundred of them cost no three hundred interpreters
    line = sys.stdin.readline()
    if not line:
        break
    child = os.fork()
    if child == 0:
        try:
            live(int(line))
        except BaseException as error:  # a child that ends by itself says why
            os.write(1, f"failed {type(error).__name__}: {error}\\n".encode())
        os._exit(1)
    print("child", child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.mark.slow
def test_three_hundred_kills_lose_nothing_that_was_saved(make, bundle, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    images, _ = make.images(["red", "green", "blue"], 4)
    np.save(tmp_path / "images.npy", np.stack(images))
    command = [sys.executable, "-c", LEARNER, str(bundle), str(tmp_path / "images.npy")]
    rng, acknowledged, lives, pace = np.random.default_rng(0), 0, [], 0.05  # seconds
    learner = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def heard():
        """The next line that the learner says, as words."""
        line = learner.stdout.readline()
        assert line, f"the learner is gone, with exit code {learner.wait()}"
        assert not line.startswith("failed"), line
        return line.split()

    try:
        for life in range(300):
            learner.stdin.write(f"{life}\n")
            learner.stdin.flush()
            said = {}
            while not said.keys() >= {"child", "running"}:
                said.update([heard()])
            steps, started = [], time.monotonic()
            for _ in range(1 + rng.integers(2)):  # then any moment until about the save after the next
                steps.append(int(heard()[1]))
            pace = (time.monotonic() - started) / len(steps)
            time.sleep(rng.uniform(0, 1.5 * pace))
            os.kill(int(said["child"]), signal.SIGKILL)
            while (words := heard()) != ["dead"]:
                steps.append(int(words[1]))
            lives.append(len(steps))
            acknowledged = max([acknowledged, *steps])
            with Device.open(bundle, runtime="numpy") as device:
                found = int(device._working.snapshot().head["step"])
                if life % 3 == 0:
                    images = device._working.statistics.count.sum()
                    device.undo()
                    assert device._working.statistics.count.sum() < images
            assert found >= acknowledged
            assert found <= acknowledged + STEPS_YOUNG  # the one label whose save was not acknowledged any more
            acknowledged = found
    finally:
        learner.kill()
        learner.wait()
    assert caplog.messages == []
    assert len(lives) == 300
    assert {path.name for path in (tmp_path / "tiny.state").iterdir()} <= {
        "lock",
        "state.a.npz",
        "state.b.npz",
        "state.earlier.npz",
        "state.a.npz.tmp",
        "state.b.npz.tmp",
    }
