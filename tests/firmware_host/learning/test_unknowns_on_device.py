"""Unknown images that are alike are offered as a new class, until they have a name."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.bundle import DeviceError
from firmware_host.cli import main
from firmware_host.learning.sightings import LATER_S, SOON_S, Sightings
from firmware_host.prediction import Prediction
from firmware_host.shared.bank.unknowns import OFFERED
from firmware_host.shared.runtimes import interpreters

RUNTIMES = interpreters()


@pytest.fixture
def bundle(knowing_bundle):
    return knowing_bundle


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


@pytest.mark.slow
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
        with pytest.raises(Exception, match="a feature is"):
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


def test_what_is_not_saved_is_not_kept(make, bundle):
    images = strangers(make, 4)
    with Device.open(bundle, runtime="numpy") as device:
        before = device._working.snapshot()
        device.evaluate(images, ["red"] * 4)
        assert device.predict(images[0]).alike == 1  # those of an evaluation do not count
        for name, value in before.bank.items():
            np.testing.assert_array_equal(device._working.snapshot().bank[name], value, err_msg=name)
    with Device.open(bundle, runtime="numpy") as device:
        assert device.predict(images[0]).alike == 1


def counted(device, images):
    return [device.predict(image)[5:8] for image in images]


def test_what_is_saved_goes_on_after_a_restart_and_elsewhere(make, bundle, tmp_path):
    images = strangers(make, OFFERED + 1)
    with Device.open(bundle, runtime="numpy") as device:
        assert counted(device, images[:-2])[-1] == (1, OFFERED - 1, False)
        device.save()
        exported = device.knowledge.export()
    with Device.open(bundle, runtime="numpy") as device:
        assert device.knowledge.groups() == [{"group": 1, "images": OFFERED - 1, "offered": False}]
        assert counted(device, images[-2:]) == [(1, OFFERED, True), (1, OFFERED + 1, True)]
    with Device.open(bundle, tmp_path / "other", runtime="numpy") as device:
        device.knowledge.restore(exported)
        assert counted(device, images[-2:-1]) == [(1, OFFERED, True)]
        device.undo()
        assert device.knowledge.groups() == []


def test_undo_brings_back_the_group_that_the_lesson_named_and_no_number_is_used_twice(make, bundle):
    images = strangers(make, OFFERED)
    with Device.open(bundle, runtime="numpy") as device:
        counted(device, images)
        device.teach(images[0], "white")
        assert device.knowledge.groups() == []
        device.unknown_rate = 1.0
        assert device.predict(make.images(["blue"], 1, seed=9)[0][0]).group == 2
        device.undo()
        assert device.knowledge.groups() == [{"group": 1, "images": OFFERED, "offered": True}]
        device._working.unknowns.clear()
        assert device.predict(images[0]).group == 3


def test_a_state_that_was_written_before_there_were_groups_opens(make, bundle):
    (image,) = strangers(make, 1)
    with Device.open(bundle, runtime="numpy") as device:
        device.predict(image)
        snapshot = device._working.snapshot()
        device._folder.write(replace(snapshot, unknowns=None))
    with Device.open(bundle, runtime="numpy") as device:
        assert device.predict(image)[5:7] == (1, 1)


def test_groups_that_do_not_fit_are_a_state_that_does_not_fit(make, bundle, tmp_path):
    (image,) = strangers(make, 1)
    with Device.open(bundle, runtime="numpy") as device:
        device.predict(image)
        arrays = device._working.unknowns.arrays()
        arrays["mean"] = arrays["mean"][:, 1:]
        device._working.unknowns.arrays = lambda: arrays
        snapshot = replace(device._working.snapshot(), unknowns=device._working.unknowns)
        device._folder.write(snapshot)
    with pytest.raises(DeviceError, match=r"does not fit the head of .* \(1 groups of unknown images"):
        Device.open(bundle, runtime="numpy")


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


def test_remembered_groups_go_on_in_another_run(make, bundle, tmp_path, capfd):
    folder = make.folder_of_images(tmp_path / "new", names=("white",), each=4)
    files = sorted(str(path) for path in folder.rglob("*.png"))
    for run in range(2):
        assert main(["predict", str(bundle), *files, "--runtime", "numpy", "--remember", "--json"]) == 0
        records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert [each["alike"] for each in records] == list(range(4 * run + 1, 4 * run + 5))
    assert main(["state", str(bundle)]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "  group 1, unknown: 8 images alike"
    assert main(["state", str(bundle), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["groups"] == [{"group": 1, "images": 8, "offered": True}]


def test_an_interrupt_keeps_what_was_seen_and_others_have_to_wait(make, bundle, monkeypatch, capfd):
    images = iter(strangers(make, 3))

    def predict(device, image, look=Device.predict):
        assert device._folder._lock is not None
        found = look(device, next(images))
        if device.knowledge.groups()[0]["images"] == 3:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Device, "predict", predict)
    file = make.folder_of_images(bundle.parent / "new", names=("white",), each=1)
    argv = ["predict", str(bundle), *[str(next(file.rglob("*.png")))] * 5, "--runtime", "numpy", "--remember"]
    assert main(argv) == 130
    assert "interrupted, what was seen is saved" in capfd.readouterr().err
    monkeypatch.undo()
    with Device.open(bundle, runtime="numpy") as device:
        assert device.knowledge.groups() == [{"group": 1, "images": 3, "offered": False}]


def test_when_it_is_saved():
    """Seldom, for each save writes the whole state; soon where a group is worth a name."""
    now = [0.0]
    sightings = Sightings(lambda: now[0])
    known, new = Prediction("red", 1.0, 0.0), Prediction("red", 1.0, 0.0, False, 1.0, 1, 1)
    offered = new._replace(alike=OFFERED, offered=True)

    def due(at, found):
        now[0] = at
        found = sightings.due(found)
        if found:
            sightings.saved()
        return found

    assert not due(1e6, known)
    assert not sightings.waiting
    assert due(1e6 + 1, new)
    assert not due(1e6 + 2 + LATER_S / 2, new)
    assert due(1e6 + 3 + LATER_S / 2, offered)
    assert not due(1e6 + 4 + LATER_S / 2, offered)
    assert sightings.waiting
    assert due(1e6 + 3 + LATER_S / 2 + SOON_S, known)
