"""The device's own camera: its picture, its predictions, and what happens when it is lost."""

import io
import queue
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.web_camera import picture as jpeg
from helpers.web_camera import snapshots, web_camera
from PIL import Image

from firmware_host import DeviceError
from firmware_host.images import load_image
from firmware_host.images.cameras import shown
from firmware_host.images.sources import NamedImage, frames
from firmware_host.images.watch import Watch
from firmware_host.serve import live as module
from firmware_host.serve.live import Live


@pytest.fixture
def start(serve, monkeypatch):
    """start(folder, watch): a server with a camera, and the queue of what that gives: pixels, or what it stops with."""
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
        return serve(
            folder, live=lambda service: Live(service, "camera:0", frames, 1e6, watch or Watch())
        ).client, given

    yield start
    ended.set()


@pytest.fixture
def camera(start):
    return start()


def seen(given, events, image):
    """Show an image; return the first event that is told of it."""
    given.put(image)
    return next((kind, data) for kind, data in events if kind in ("prediction", "frame"))


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
    found = next(events)[1]
    assert (found["label"], found["frame"]) == ("green", 2)
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


def test_an_idle_camera_costs_no_prediction(start, picture):
    client, given = start(watch=Watch(agree=2, motion=True))
    events = client.listen()
    told = [seen(given, events, large(picture("red"))) for _ in range(10)]
    assert [kind for kind, _ in told] == ["prediction"] * 2 + ["frame"] * 8
    assert [data["frame"] for _, data in told] == list(range(1, 11))  # its picture goes on
    assert client.get("/api/frame").status == 200
    assert "cbpnet_predictions_total 2" in client.get("/metrics").body.decode()
    assert seen(given, events, large(picture("green")))[1]["label"] == "green"


def test_a_prediction_says_whether_it_is_settled(start, picture):
    client, given = start(watch=Watch(agree=3, motion=True))
    events = client.listen()
    told = [seen(given, events, large(picture(name))) for name in ("red", "red", "green", "green", "green")]
    assert [data["settled"] for _, data in told] == [False, False, False, False, True]
    assert client.predict(picture("red")).json["settled"]


def test_whoever_comes_and_whatever_changes_has_a_prediction(start, picture):
    client, given = start(watch=Watch(motion=True))
    events = client.listen()
    scene = large(picture("red"))
    assert [seen(given, events, scene)[0] for _ in range(2)] == ["prediction", "frame"]
    other = client.listen()  # a page that is opened has not heard it
    given.put(scene)
    assert [next(events)[0], next(other)[0]] == ["prediction", "prediction"]
    client.post("/api/teach", {"label": "cup"})
    assert [next(events)[0] for _ in range(2)] == ["save", "lesson"]
    assert seen(given, events, scene)[0] == "prediction"  # it may say something else now
    given.put(DeviceError("camera:0 is lost"))
    given.put(scene)
    assert [next(events)[0] for _ in range(3)] == ["camera", "camera", "prediction"]


def test_a_camera_on_the_network_goes_away_and_comes_back(serve, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    with web_camera() as camera:
        source = camera.address("/now.jpg", "anna:s3cr")
        opened = partial(frames, source)
        camera.routes["/now.jpg"] = snapshots(jpeg((220, 30, 30)))
        client = serve(live=lambda service: Live(service, shown(source), opened, 1e6, Watch(motion=True))).client
        events = client.listen()
        found = next(told for kind, told in events if kind == "prediction")
        assert (found["label"], found["source"]) == ("red", "camera")
        assert client.get("/api/status").json["camera"] == {"source": shown(source), "error": None}
    lost = next(told for kind, told in events if kind == "camera" and told["error"])
    assert lost["source"] == f"http://***@127.0.0.1:{camera.port}/now.jpg"
    assert "gives no picture (" in lost["error"]
    assert client.get("/api/frame").status == 404
    with web_camera(camera.port) as again:
        again.routes["/now.jpg"] = snapshots(jpeg((30, 220, 30)))
        assert next(told for kind, told in events if kind == "prediction")["label"] == "green"
        assert client.get("/api/health").json == {"ok": True}


class Waits:
    """Stands in for the event that ends a camera: it notes each wait, and ends the camera after `most` of them."""

    def __init__(self, most):
        self.most, self.noted = most, []

    def is_set(self):
        return len(self.noted) >= self.most

    def wait(self, seconds):
        self.noted.append(seconds)


def test_it_waits_longer_each_time_until_it_has_worked(picture):
    outcomes = [None, None, "red", None, KeyError("of a driver"), None, None, None]

    def opened():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            yield NamedImage("camera:0#0", picture(outcome))
        raise DeviceError("camera:0 is lost")

    told = []
    hub = SimpleNamespace(publish=lambda kind, data: told.append(data["error"]), joined=0)
    service = SimpleNamespace(hub=hub, later=lambda work: None)
    live = Live(service, "camera:0", opened, 1e6, Watch())
    live._stopped = Waits(len(outcomes))
    live.start()
    live._thread.join()
    assert live._stopped.noted == [1, 2, 1, 2, 4, 8, 16, 30]
    assert (
        told
        == ["camera:0 is lost"] * 2
        + [None]
        + ["camera:0 is lost"] * 2
        + ["camera:0 is lost (KeyError): check it"]
        + ["camera:0 is lost"] * 3
    )
    assert live.frame is None
