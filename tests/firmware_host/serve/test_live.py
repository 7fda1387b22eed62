"""The device's own camera: its picture, its predictions, and what happens when it is lost."""

import io
import queue
import threading

import numpy as np
import pytest
from PIL import Image

from firmware_host import DeviceError
from firmware_host.images import load_image
from firmware_host.images.sources import NamedImage
from firmware_host.images.watch import Watch
from firmware_host.serve import live as module
from firmware_host.serve.live import Live


@pytest.fixture
def start(serve, monkeypatch):
    """start(folder, watch): a server with a camera, and the queue of what that gives: pixels, or the error it stops with."""
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    given, ended = queue.Queue(), threading.Event()

    def frames():
        while not ended.is_set():
            try:
                image = given.get(timeout=0.02)
            except queue.Empty:
                continue
            if isinstance(image, Exception):
                raise image
            yield NamedImage("camera:0#1", image)

    def start(folder=None, watch=None):
        return serve(folder, live=lambda service: Live(service, "camera:0", frames, 1e6, watch or Watch())).client, given

    yield start
    ended.set()


@pytest.fixture
def camera(start):
    return start()


def large(pixels):
    return np.kron(pixels, np.ones((100, 100, 1), np.uint8))


def test_its_pictures_are_shown_predicted_and_taught(camera, picture):
    client, given = camera
    assert client.get("/api/frame").status == 404
    events = client.listen()
    given.put(large(picture("red")))
    assert next(events) == ("camera", {"source": "camera:0", "error": None})
    kind, found = next(events)
    assert (kind, found["label"], found["source"], found["frame"]) == ("prediction", "red", "camera", 1)
    shown = Image.open(io.BytesIO(client.get("/api/frame").body))
    assert (shown.format, shown.size) == ("JPEG", (640, 640))
    given.put(large(picture("blue")))
    assert next(events)[1]["frame"] == 2
    lesson = client.post("/api/teach", {"label": "blue"}).json
    thumbnail = np.array(Image.open(io.BytesIO(client.get(f"/api/pictures/{lesson['image']}").body)))
    assert np.array_equal(thumbnail, load_image(large(picture("blue")), (8, 8)))
    given.put(large(picture("blue", 1)))
    told = [next(events) for _ in range(3)]
    assert [kind for kind, _ in told] == ["save", "lesson", "prediction"]
    assert told[2][1]["label"] == "blue"


def test_a_lost_camera_is_reported_and_reopened(camera, picture):
    client, given = camera
    events = client.listen()
    given.put(picture("red"))
    assert [next(events)[0] for _ in range(2)] == ["camera", "prediction"]
    given.put(DeviceError("camera:0 gave no more after 1 frames: check it"))
    assert next(events) == ("camera", {"source": "camera:0", "error": "camera:0 gave no more after 1 frames: check it"})
    assert client.get("/api/status").json["camera"]["error"].startswith("camera:0 gave no more")
    assert client.get("/api/health").json == {"ok": False}
    assert client.get("/api/frame").status == 404  # not what it saw long ago
    given.put(picture("green"))
    assert next(events) == ("camera", {"source": "camera:0", "error": None})
    assert next(events)[1]["label"] == "green"
    assert client.get("/api/health").json == {"ok": True}


def test_a_device_that_knows_nothing_shows_what_it_sees(start, make, picture, tmp_path):
    client, given = start(make.write_bundle(tmp_path / "empty", known=()))
    events = client.listen()
    given.put(large(picture("red")))
    assert [next(events) for _ in range(2)][1] == ("frame", {"frame": 1})
    assert client.get("/api/frame").status == 200
    assert client.post("/api/teach", {"label": "red"}).status == 200
    given.put(large(picture("red", 1)))
    assert [next(events)[0] for _ in range(3)] == ["save", "lesson", "prediction"]
