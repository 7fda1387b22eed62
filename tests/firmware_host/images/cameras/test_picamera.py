"""A Raspberry Pi's own camera, with a picamera2 of the test; its behaviour is that of picamera2 0.3.36."""

import sys
import types
from concurrent.futures import Future
from itertools import islice

import numpy as np
import pytest

from firmware_host.bundle import DeviceError
from firmware_host.images.cameras import picamera
from firmware_host.images.sources import frames

SCENE = np.array((220, 30, 60), np.uint8)  # R, G, B


class Picamera2:
    """Two cameras; one gives `left` frames and then none, as one whose cable is pulled.

    Its own `stop` waits for a frame that was asked for, and `close` ends everything without waiting.
    """

    sensors = ((3280, 2464), (4608, 2592))
    opened, left, refuses = [], 10, {}

    def __init__(self, camera_num=0, verbose_console=None, tuning=None, allocator=None):
        self.camera_properties = {"PixelArraySize": self.sensors[camera_num]}
        self.number, self.calls, self.config, self.waiting = camera_num, [], None, None
        self.opened.append(self)
        self.call("open")

    def call(self, name):
        self.calls.append(name)
        if name in self.refuses:
            raise self.refuses[name]

    def create_video_configuration(self, main={}, lores=None, raw={}, **more):  # noqa: B006
        return {"main": {"format": "XBGR8888", "size": (1280, 720), **main}, "raw": {"size": main["size"], **raw}}

    def configure(self, camera_config=None):
        self.call("configure")
        self.config = camera_config

    def start(self, config=None, show_preview=False):
        self.call("start")

    def capture_array(self, name="main", wait=None, signal_function=None):
        assert "start" in self.calls
        assert wait is False, "it would wait for ever where the camera gives no more"
        job, (width, height) = Future(), self.config[name]["size"]
        if "capture_array" in self.refuses:
            job.set_exception(self.refuses["capture_array"])
        elif self.left > 0:
            self.left -= 1
            order = {"BGR888": [0, 1, 2], "RGB888": [2, 1, 0]}[self.config[name]["format"]]
            job.set_result(np.full((height, width, 3), SCENE[order]))
        self.waiting = job
        return job

    def wait(self, job, timeout=None):
        assert timeout == picamera.SILENT_S
        return job.result(0 if not job.done() else timeout)

    def stop(self):
        assert self.waiting.done(), "it would wait for ever"

    def close(self):
        self.calls.append("close")


@pytest.fixture
def picamera2(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", types.SimpleNamespace(Picamera2=Picamera2))
    monkeypatch.setattr(Picamera2, "opened", [])
    monkeypatch.setattr(Picamera2, "refuses", {})
    return Picamera2


def test_its_frames(picamera2):
    found = list(islice(frames("picamera", every=2), 3))
    assert [each.name for each in found] == ["picamera#0", "picamera#2", "picamera#4"]
    for each in found:
        assert each.image.shape == (480, 640, 3)
        assert np.array_equal(each.image[0, 0], SCENE)
    [camera] = picamera2.opened
    assert camera.config["raw"]["size"] == (1640, 1232)  # the mode that sees as much as the sensor does
    assert camera.calls == ["open", "configure", "start", "close"]


def test_another_camera_has_the_form_of_its_sensor(picamera2):
    [found] = islice(frames("picamera:1"), 1)
    assert found.image.shape == (360, 640, 3)
    assert picamera2.opened[0].number == 1


def test_one_that_gives_no_more_is_lost_and_closed(picamera2, monkeypatch):
    monkeypatch.setattr(Picamera2, "left", 2)
    given = frames("picamera")
    assert len(list(islice(given, 2))) == 2
    with pytest.raises(DeviceError, match="picamera gave no frame for 10 s: check its cable"):
        next(given)
    assert picamera2.opened[0].calls[-1] == "close"
    assert len(list(islice(frames("picamera"), 2))) == 2  # it can be opened again


@pytest.mark.parametrize(
    ("source", "what", "error", "words"),
    [
        ("picamera:2", None, None, r"picamera:2 does not open \(there is none of this number\): check its cable"),
        ("picamera", "configure", RuntimeError("Device or\nbusy"), r"picamera does not open \(Device or busy\)"),
        ("picamera", "start", RuntimeError(), r"picamera does not open \(RuntimeError\)"),
        ("picamera", "capture_array", RuntimeError("gone"), r"picamera is lost \(gone\): check its cable"),
    ],
)
def test_what_goes_wrong_is_one_line(picamera2, monkeypatch, source, what, error, words):
    monkeypatch.setattr(Picamera2, "refuses", {} if what is None else {what: error})
    with pytest.raises(DeviceError, match=words):
        next(frames(source))
    assert all(camera.calls[-1] == "close" for camera in picamera2.opened if "configure" in camera.calls)


def test_it_must_fit(picamera2):
    with pytest.raises(DeviceError, match=r"picamera \(640 x 480 pixels\) needs \d+ MiB"):
        frames("picamera", max_memory_mb=1.0)
    assert picamera2.opened == []


def test_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(
        DeviceError, match=r"apt install python3-picamera2, and .* python3 -m venv --system-site-packag"
    ):
        frames("picamera")


def test_a_picamera2_of_another_numpy(monkeypatch):
    def refuse(name):
        raise ValueError("numpy.dtype size changed, may indicate binary incompatibility")

    monkeypatch.setattr(picamera.importlib, "import_module", refuse)
    with pytest.raises(DeviceError, match=r'numpy.dtype size changed.*: pip install "numpy<2"$'):
        frames("picamera")
