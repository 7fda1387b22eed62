"""A server of its own in a thread, with a device of the tiny bundle; and a client that sends what it is told to."""

import http.client
import io
import json
import shutil
import ssl
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from firmware_host import Device
from firmware_host.serve.app import build_app
from firmware_host.serve.bodies import Bodies
from firmware_host.serve.security import Allowance, Policy
from firmware_host.serve.server import Server, bound, names_of
from firmware_host.serve.service import Service

JSON = {"content-type": "application/json"}
PNG = {"content-type": "image/png"}
STATE = {"content-type": "application/octet-stream"}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to 127.0.0.1, each on a connection of its own; `headers` go with all of them."""

    def __init__(self, port, certificate=None, **headers):
        self.port, self.headers, self.certificate = port, headers, certificate

    def connect(self):
        if self.certificate is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        context = ssl.create_default_context(cafile=self.certificate)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)

    def __call__(self, method, path, body=None, headers=None, **more):
        connection = self.connect()
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})}, **more)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self("GET", path, headers=headers)

    def post(self, path, fields=None):
        return self("POST", path, json.dumps(fields or {}), JSON)

    def predict(self, pixels):
        return self("POST", "/api/predict", png(pixels), PNG)

    def teach(self, pixels, label, hold=None):
        query = f"label={label}" + (f"&hold={hold}" if hold else "")
        return self("POST", f"/api/teach?{query}", png(pixels), PNG)

    def listen(self):
        """The events from now on, as (kind, data)."""
        connection = self.connect()
        connection.request("GET", "/api/events", headers=self.headers)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.readline() == b": listening\n"

        def events():
            kind = None
            for line in iter(answer.readline, b""):
                assert not line.startswith(b": still"), "no event for a long time"
                if line.startswith(b"event: "):
                    kind = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    yield kind, json.loads(line[6:])

        return events()

    def known(self):
        """What a device knows as far as anybody sees it: what an attack must leave alone."""
        return self.get("/api/classes").json, self.get("/api/status").json["revision"]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@dataclass
class Serving:
    client: Client
    service: Service
    server: Server
    thread: threading.Thread

    def stop(self):
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()


class Starter:
    """start(folder, ...): start a server; `stop` ends all of them."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def __call__(
        self, folder=None, token=None, lessons=1e5, burst=10_000, head_s=10.0, body_s=20.0, certificate=None, live=None
    ):
        device = Device.open(folder or self.folder, runtime="numpy")
        device.camera.follows, device.max_memory_mb = False, 100.0
        service = Service(device)
        listening = bound("127.0.0.1", 0)
        port = listening.getsockname()[1]
        policy = Policy(names_of("127.0.0.1"), token, certificate is not None, port)
        made = None if live is None else live(service)
        app = build_app(service, policy, Allowance(lessons, burst), made, Bodies(body_s))
        server = Server(app, service.hub, certificate, head_s)
        thread = threading.Thread(target=server.serve_on, args=(listening,))
        thread.start()
        if made is not None:
            made.start()
        client = Client(port, None if certificate is None else certificate.cert)
        self.running.append(Serving(client, service, server, thread))
        return self.running[-1]

    def stop(self):
        for serving in self.running:
            if serving.thread.is_alive():
                serving.stop()


@pytest.fixture
def serve(bundle):
    start = Starter(bundle)
    yield start
    start.stop()


@pytest.fixture
def client(serve):
    return serve().client


@pytest.fixture(scope="module")
def shared_client(pristine_bundle, tmp_path_factory):
    """A client of one server for many tests that change nothing."""
    start = Starter(shutil.copytree(pristine_bundle, tmp_path_factory.mktemp("shared") / "tiny"))
    yield start().client
    start.stop()


@pytest.fixture
def picture(make):
    """picture(name, seed): pixels of that colour."""

    def picture(name, seed=0):
        [[pixels], _] = make.images([name], 1, seed)
        return pixels

    return picture
