"""Which frames are worth a prediction, and when an answer is settled; on the command line."""

import numpy as np
import pytest
from helpers.web_camera import picture, snapshots, stream, web_camera

from firmware_host.bundle import DeviceError
from firmware_host.device import Device
from firmware_host.images.watch import Watch

RED, GREEN, BLUE = (220, 30, 30), (30, 220, 30), (30, 30, 220)


class Scene:
    """What a camera sees, with the noise of its sensor."""

    def __init__(self, noise, seed=0):
        rng = np.random.default_rng(seed)
        self.still = np.kron(rng.integers(40, 216, (12, 16, 3)), np.ones((40, 40, 1), np.int64))
        self.noise, self.rng = noise, rng

    def frame(self, change=0.0, place=np.s_[200:240, 300:340]):
        light = self.still + self.noise * self.rng.standard_normal(self.still.shape)
        light[place] += change
        return np.clip(light.round(), 0, 255).astype(np.uint8)


def settled_watch():
    watch = Watch(motion=True)
    assert watch.wants(Scene(0.0, seed=9).frame())  # of something else
    watch.hear("a")
    return watch


@pytest.mark.slow
@pytest.mark.parametrize(
    "noise", [0.0, pytest.param(4.0, marks=pytest.mark.slow), pytest.param(12.0, marks=pytest.mark.slow)]
)
def test_a_still_scene_is_predicted_once(noise):
    watch, scene = settled_watch(), Scene(noise)
    wanted = [watch.wants(scene.frame()) for _ in range(200)]
    assert wanted == [True] + [False] * 199


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 4.0, 12.0])
def test_what_moves_is_predicted(noise):
    watch, scene = settled_watch(), Scene(noise)
    for _ in range(30):
        watch.wants(scene.frame())
    assert watch.wants(scene.frame(20.0))  # a 16th of the width, 8 % brighter
    assert not watch.wants(scene.frame(20.0))
    assert watch.wants(scene.frame())


@pytest.mark.slow
def test_what_moves_all_the_time_is_always_predicted():
    watch, scene = settled_watch(), Scene(4.0)
    for step in range(60):  # the whole picture goes by: nothing of that is noise
        assert watch.wants(np.roll(scene.frame(), 20 * step, axis=1))


@pytest.mark.slow
def test_a_slow_change_is_noticed():
    watch, scene = settled_watch(), Scene(4.0)
    wanted = [watch.wants(scene.frame(0.25 * step, np.s_[:])) for step in range(160)]  # the sun rises
    assert 3 <= sum(wanted) <= 20


def test_another_size_is_another_picture_of_the_same():
    watch, scene = settled_watch(), Scene(0.0)
    assert watch.wants(scene.frame())
    assert not watch.wants(scene.frame()[::2, ::2])
    assert watch.wants(scene.frame()[:100, :100])


def test_it_is_predicted_until_it_is_settled():
    watch, frame = Watch(agree=3, motion=True), Scene(0.0).frame()
    for answer, settled in zip("abbabbb", [False] * 6 + [True]):
        assert watch.wants(frame)
        assert watch.hear(answer) is settled
    assert not watch.wants(frame)
    watch.forget()
    assert watch.wants(frame)
    assert not watch.settled


def test_answers_that_agree():
    watch = Watch(agree=2)
    said = []
    for answer in ("a", "b", "b", "b", "a", "b", "b", None, None, "a", None, None, "a", "a"):
        watch.hear(answer)
        if watch.news:
            said.append(answer)
    assert said == ["b", None, "a"]
    with pytest.raises(DeviceError, match="agree is 0: use 1 or more"):
        Watch(agree=0)


def test_a_line_only_where_frames_agree_on_another_answer(predict):
    colours = [RED, RED, GREEN, RED, GREEN, GREEN, GREEN, RED, GREEN, RED, RED]
    with web_camera() as camera:
        camera.routes["/"] = stream(*[picture(rgb) for rgb in colours])
        code, records, err = predict("--source", camera.address("/"), "--agree", 2, "--frames", len(colours))
        assert (code, err) == (0, [])
        assert [(each["image"].partition("#")[2], each["label"]) for each in records] == [
            ("1", "red"),
            ("5", "green"),
            ("10", "red"),
        ]
        assert [each["label"] for each in predict("--source", camera.address("/"), "--agree", 1, "--frames", 4)[1]] == [
            "red",
            "green",
            "red",
        ]
        assert predict("--source", camera.address("/"), "--agree", 0)[2] == ["error: agree is 0: use 1 or more"]


def test_a_frame_in_which_nothing_moved_costs_nothing(predict, monkeypatch):
    computed = []
    whole = Device.predict
    monkeypatch.setattr(Device, "predict", lambda self, *given: computed.append(0) or whole(self, *given))
    with web_camera() as camera:
        camera.routes["/"] = stream(*[picture(rgb) for rgb in [RED] * 5 + [GREEN] * 5])
        command = ("--source", camera.address("/"), "--frames", 10)
        code, records, _ = predict(*command, "--motion")
        assert (code, [(each["image"].partition("#")[2], each["label"]) for each in records]) == (
            0,
            [("0", "red"), ("5", "green")],
        )
        assert len(computed) == 2
        assert [each["label"] for each in predict(*command, "--motion", "--agree", 3)[1]] == ["red", "green"]
        assert len(computed) == 2 + 6
        assert len(predict(*command)[1]) == 10


def test_a_class_is_taught_from_a_camera_on_the_network(learn, predict):
    with web_camera() as camera:
        camera.routes["/now.jpg"] = snapshots(picture(BLUE))
        source = camera.address("/now.jpg", "anna:s3cr")
        for arguments, message in {
            (): "source http://***@127.0.0.1:{}/now.jpg shows is unknown: give --label NAME",
            ("--label", "blue"): "source http://***@127.0.0.1:{}/now.jpg has no end: give --frames N",
            ("DATA", "--label", "blue"): "DATA DATA and --source http://***@127.0.0.1:{}/now.jpg are given: use one of",
        }.items():
            assert message.format(camera.port) in learn(*arguments, "--source", source)[2][0]
        code, [result], err = learn("--source", source, "--label", "blue", "--new", "--frames", 2)
        assert (code, result["images"]) == (0, 2)
        assert "s3cr" not in "".join(err)
        _, [found], _ = predict("--source", source, "--frames", 1)
        assert found["label"] == "blue"
