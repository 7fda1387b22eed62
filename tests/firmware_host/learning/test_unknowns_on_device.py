"""Unknown images that are alike are offered as a new class, until they have a name."""

import json
import subprocess
import sys

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.cli import main
from firmware_host.shared.bank.unknowns import OFFERED
from firmware_host.shared.runtimes import interpreters

RUNTIMES = interpreters()


@pytest.fixture
def bundle(make, tmp_path):
    """Knows red and green so well that white is told to be neither."""
    path = make.write_bundle(tmp_path / "b", bank=True)
    with Device.open(path, runtime="numpy") as device:
        for image, label in zip(*make.images(["red", "green"], 40)):
            device.teach(image, label)
        device.save()
    return path


def strangers(make, number, name="white", seed=3):
    return make.images([name], number, seed=seed)[0]


def test_from_seven_alike_on_they_are_offered(make, bundle):
    with Device.open(bundle, runtime="numpy") as device:
        found = [device.predict(image) for image in strangers(make, OFFERED + 2)]
        assert [(each.group, each.alike) for each in found] == [(1, seen) for seen in range(1, OFFERED + 3)]
        assert [each.offered for each in found] == [False] * (OFFERED - 1) + [True] * 3
        known = device.predict(make.images(["red"], 1, seed=5)[0][0])
        assert (known.known, known.group, known.alike, known.offered) == (True, None, 0, False)


PREDICT = """
import json, sys
import numpy as np
from firmware_host import Device
from firmware_host.engines.find import find_runtime, open_backbone
bundle, runtime, images = sys.argv[1:]
with Device.open(bundle, runtime="numpy") as device:
    device._backbone = open_backbone(device.bundle, find_runtime(runtime), 1)
    seen = [device.predict(image) for image in np.load(images)]
    print(json.dumps([(each.group, each.alike, each.offered) for each in seen]))
"""


def test_every_runtime_offers_the_same_and_twice_alike(make, bundle, tmp_path):
    """Each in a process of its own: not every two of them load into one."""
    np.save(tmp_path / "images.npy", np.stack(make.images(["white", "blue", "red"], 12, seed=8)[0]))
    found = []
    for runtime in [*RUNTIMES, RUNTIMES[0]]:
        command = [sys.executable, "-c", PREDICT, str(bundle), runtime, str(tmp_path / "images.npy")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        found.append(json.loads(ended.stdout.splitlines()[-1]))
    assert all(each == found[0] for each in found)
    assert any(offered for *_, offered in found[0])


@pytest.mark.parametrize("how", ["learn", "teach"])
def test_a_group_goes_when_it_has_a_name(make, bundle, how):
    images = strangers(make, OFFERED)
    with Device.open(bundle, runtime="numpy") as device:
        for image in images:
            device.predict(image)
        if how == "learn":
            device.learn(images, ["white"] * OFFERED, epochs=1)
        else:
            device.teach(images[0], "white")
        device.unknown_rate = 1.0  # of whatever is left of them
        found = device.predict(strangers(make, 1, seed=9)[0])
        assert found.label == "white"
        assert (found.group, found.alike) == (2, 1)


def test_a_lesson_that_fails_leaves_the_groups(make, bundle):
    images = strangers(make, 3)
    with Device.open(bundle, runtime="numpy") as device:
        for image in images:
            device.predict(image)
        with pytest.raises(Exception, match="image"):
            device.learn([*images, np.zeros(3, np.uint8)], ["white"] * 4)
        assert device.predict(images[0]).alike == 4


def test_forgetting_and_another_camera_begin_again(make, bundle):
    (image,) = strangers(make, 1)
    with Device.open(bundle, runtime="numpy") as device:
        assert [device.predict(image).alike for _ in range(2)] == [1, 2]
        device.add_class("spoon")
        device.forget_class("spoon")
        assert device.predict(image)[5:7] == (2, 1)
        device._working.move_camera(device.camera.offset, 0.0)
        assert device.predict(image)[5:7] == (3, 1)


def test_evaluating_and_predicting_change_nothing_that_is_saved(make, bundle):
    images = strangers(make, 4)
    with Device.open(bundle, runtime="numpy") as device:
        before = device._working.snapshot()
        device.evaluate(images, ["red"] * 4)
        assert device.predict(images[0]).alike == 1  # those of an evaluation do not count
        for name, value in before.bank.items():
            np.testing.assert_array_equal(device._working.snapshot().bank[name], value, err_msg=name)
    with Device.open(bundle, runtime="numpy") as device:
        assert device.predict(images[0]).alike == 1


def test_the_command_line_says_so(make, bundle, tmp_path, capfd):
    folder = make.folder_of_images(tmp_path / "new", names=("white",), each=OFFERED)
    files = sorted(str(path) for path in folder.rglob("*.png"))
    state = {path: path.read_bytes() for path in (tmp_path / "b.state").iterdir()}
    assert main(["predict", str(bundle), *files, "--runtime", "numpy"]) == 0
    *first, last = capfd.readouterr().out.splitlines()
    assert all(line.endswith(" ms), group 1") for line in first)
    assert last.endswith(f" ms), group 1: {OFFERED} alike, teach them a name?")
    assert main(["predict", str(bundle), *files, "--runtime", "numpy", "--json"]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [each["alike"] for each in records] == list(range(1, OFFERED + 1))
    assert [each["offered"] for each in records] == [False] * (OFFERED - 1) + [True]
    assert {each["group"] for each in records} == {1}
    assert {path: path.read_bytes() for path in (tmp_path / "b.state").iterdir()} == state
