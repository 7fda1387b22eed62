"""A real broker, a client that watches it, a device in a house with a camera that sees what it is given."""

import getpass
import io
import json
import queue
import shutil
import signal
import socket
import subprocess
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.web_camera import snapshots, web_camera
from PIL import Image

from firmware_host import Device
from firmware_host.images.sources import NamedImage
from firmware_host.images.watch import Watch
from firmware_host.serve import live as live_module
from firmware_host.serve.live import Live
from firmware_host.serve.service import Service

PATIENCE_S = 60  # until a test gives up
MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def until(true):
    """Return once something is true."""
    for _ in range(PATIENCE_S * 100):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it does not become true")


class RealBroker:
    """Mosquitto on a port of its own; it keeps nothing on disk, so a restart has forgotten what was retained."""

    def __init__(self, folder, *settings):
        self.port, self.process = free_port(), None
        self.config = folder / f"mosquitto-{self.port}.conf"
        settings = settings or ("allow_anonymous true",)
        lines = [f"listener {self.port} 127.0.0.1", f"user {getpass.getuser()}", *settings]
        self.config.write_text("\n".join(lines) + "\n")

    def start(self):
        log = open(self.config.with_suffix(".log"), "ab")  # noqa: SIM115
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self.config)], stdout=log, stderr=log)
        log.close()
        until(self._listens)
        return self

    def _listens(self):
        assert self.process.poll() is None, self.config.with_suffix(".log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(PATIENCE_S)
            self.process = None


class Watcher:
    """Listens to everything on a broker; `last` is what came last on each topic.

    With a `session`, the broker keeps for it what comes while it is not there.
    """

    def __init__(self, port, session=None):
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.last, self.news, self.ready = {}, queue.Queue(), threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, session or "", clean_session=session is None)
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = self._heard
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.ready.wait(PATIENCE_S)

    def _heard(self, _, __, message):
        self.last[message.topic] = message.payload.decode("utf-8", "replace")
        self.news.put((message.topic, message.payload.decode("utf-8", "replace")))

    def send(self, topic, payload="", retain=False):
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE_S)

    def next(self, topic, wanted=lambda payload: True):
        """The next message on a topic that is wanted; those before it are dropped."""
        while True:
            heard, payload = self.news.get(timeout=PATIENCE_S)
            if heard == topic and wanted(payload):
                return payload

    def result(self, command):
        """The answer to a command."""
        return json.loads(self.next("cbpnet/test/result", lambda text: json.loads(text)["command"] == command))

    def state(self, wanted):
        """What the camera sees, once it is as wanted."""
        return json.loads(self.next("cbpnet/test/state", lambda text: wanted(json.loads(text))))

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def brokers(tmp_path):
    """brokers(*settings): start a broker."""
    started = []

    def start(*settings):
        pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed")
        if MOSQUITTO is None:
            pytest.skip("mosquitto is not installed: apt install mosquitto")
        started.append(RealBroker(tmp_path, *settings))
        return started[-1].start()

    yield start
    for broker in started:
        broker.kill()


@pytest.fixture
def broker(brokers):
    return brokers()


@pytest.fixture
def watch():
    """watch(broker, session): listen to it."""
    watchers = []

    def watch(broker, session=None):
        watchers.append(Watcher(broker.port, session))
        return watchers[-1]

    yield watch
    for watcher in watchers:
        watcher.close()


@pytest.fixture
def picture(make):
    """picture(name, seed): pixels of that colour."""

    def picture(name, seed=0):
        [[pixels], _] = make.images([name], 1, seed)
        return pixels

    return picture


@pytest.fixture
def service(bundle):
    service = opened(bundle)
    yield service
    service.close()


@pytest.fixture
def service_with_bank(make, tmp_path):
    """Knows red and green so well that white is told to be neither."""
    service = opened(make.write_bundle(tmp_path / "banked", bank=True))
    for image, label in zip(*make.images(["red", "green"], 40)):
        service.device.teach(image, label)
    yield service
    service.close()


def opened(bundle):
    device = Device.open(bundle, runtime="numpy")
    device.camera.follows, device.max_memory_mb = False, 200.0
    return Service(device)


class Camera:
    """A camera that shows a picture until it is given another one, or an error to stop with."""

    def __init__(self):
        self.shown, self.ended = None, threading.Event()

    def frames(self):
        while not self.ended.wait(0.01):
            shown = self.shown
            if isinstance(shown, Exception):
                raise shown
            if shown is not None:
                yield NamedImage("camera:0#1", shown)


class InHouse:
    """A device in a house, and the lines it has said."""

    def __init__(self, home, camera, service):
        self.home, self.camera, self.service = home, camera, service
        self.lines, self.error = queue.Queue(), None
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        try:
            for line in self.home.lines():
                self.lines.put(line)
        except BaseException as error:
            self.error = error
            self.lines.put(error)

    def said(self, what, wanted=lambda line: True):
        """The next line about something; those before it are dropped."""
        while True:
            line = self.lines.get(timeout=PATIENCE_S)
            if isinstance(line, BaseException):
                raise line
            if line.what == what and wanted(line):
                return line

    def shows(self, picture):
        """Return once the camera's newest frame is this picture."""
        self.camera.shown = picture
        until(lambda: (frame := self.home._live.frame) is not None and np.array_equal(frame.image, picture))

    def classes(self):
        return {known["name"]: known["images"] for known in self.service.device.knowledge.classes()}


@pytest.fixture
def house(bundle, monkeypatch, brokers):
    """house(broker, ...): start a device there; topics are below cbpnet/test. It ends before its broker."""
    pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed")
    from firmware_host.home.broker import Login
    from firmware_host.home.discovery import Described
    from firmware_host.home.home import Home, Place
    from firmware_host.home.topics import Address, Topics

    monkeypatch.setattr(live_module, "RETRY_S", 0.01)
    started = []

    def start(broker, login=None, agree=1, camera=True, port=None, folder=None, **more):
        place = Place(
            Address("127.0.0.1", port or broker.port),
            login or Login(),
            Topics("cbpnet/test"),
            "homeassistant",
            Described("0123", "Front door", "tiny"),
        )
        service, seen = opened(folder or bundle), Camera()
        live = Live(service, "camera:0", seen.frames, 1e6, Watch(agree)) if camera else None
        home = Home(service, place, live, delays_s=more.pop("delays_s", (0.05, 0.2)), **more)
        started.append(InHouse(home, seen, service))
        home.start()
        return started[-1]

    yield start
    for one in started:
        one.camera.ended.set()
        one.home.close()
        one.home.end()
        one.reader.join(PATIENCE_S)


@pytest.fixture
def camera(picture):
    """A camera in the network: its address, and show(pixels)."""
    with web_camera() as found:
        address = found.address("/now.png")

        def show(pixels):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            found.routes["/now.png"] = snapshots(file.getvalue(), kind="image/png")

        show(picture("red"))
        yield SimpleNamespace(url=address, show=show)
