"""Many clients at once, and a server that is killed: lessons one after the other, none lost, states never mixed."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.paths import ROOT

from firmware_host import Device

from .conftest import Client, png

NAMES = ("blue", "white")


def test_ten_clients_teach_and_predict_at_once(serve, bundle, picture):
    serving = serve()
    probe = png(picture("red", 100))
    said, taught, failed = [], [], []

    def use(number):
        try:
            for turn in range(3):
                label = NAMES[(number + turn) % 2]
                lesson = serving.client.teach(picture(label, 10 * number + turn), label)
                assert lesson.status == 200
                taught.append((lesson.json["revision"], label))
                answer = serving.client("POST", "/api/predict", probe, {"content-type": "image/png"}).json
                said.append((answer["revision"], json.dumps(answer["probabilities"])))
        except BaseException as error:
            failed.append(error)

    clients = [threading.Thread(target=use, args=(number,)) for number in range(10)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert failed == []
    assert sorted(revision for revision, _ in taught) == list(range(1, 31))  # one after the other
    assert len(said) == 30
    states = dict(said)
    assert all(states[revision] == probabilities for revision, probabilities in said)  # of a whole state, always
    counts = {each["name"]: each["images"] for each in serving.client.get("/api/classes").json["classes"]}
    assert counts == {"red": 20, "green": 20, "blue": 15, "white": 15}
    found = serving.client("POST", "/api/predict", probe, {"content-type": "image/png"}).json["probabilities"]
    serving.stop()
    with Device.open(bundle, runtime="numpy") as device:
        device.camera.follows = False
        assert dict(device.predict(picture("red", 100)).probabilities) == found  # the last one was saved


def started(bundle, *more):
    """A server as a process, and a client of it."""
    command = [
        sys.executable,
        "-m",
        "firmware_host",
        "serve",
        str(bundle),
        "--runtime",
        "numpy",
        "--port",
        "0",
        "--json",
    ]
    command += ["--no-follow-camera", *more]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    url = json.loads(server.stdout.readline())["url"]
    return server, Client(int(url.rstrip("/").rpartition(":")[2]))


@pytest.mark.slow
def test_taught_over_the_network_killed_and_started_again_it_still_knows(bundle, picture):
    server, client = started(bundle)
    try:
        old = {name: client.predict(picture(name, 50)).json for name in ("red", "green")}
        for seed in range(4):
            for name in NAMES:
                assert client.teach(picture(name, seed), name).status == 200
        known = client.get("/api/classes").json
        pictures = {name: picture(name, 50) for name in ("red", "green", *NAMES)}
        before = {name: client.predict(pixels).json for name, pixels in pictures.items()}
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
    assert {name: found["label"] for name, found in before.items()} == {name: name for name in pictures}
    for name, found in old.items():  # the old classes did not move
        assert found["label"] == name
        assert before[name]["probability"] > found["probability"] - 0.05
    server, client = started(bundle)
    try:
        assert client.get("/api/classes").json == known
        after = {name: client.predict(pixels).json for name, pixels in pictures.items()}
        for name in pictures:
            assert after[name]["probabilities"] == before[name]["probabilities"]
        assert client.post("/api/undo").json["classes"][3]["images"] == 3  # also over the restart
        events = client.listen()
        server.send_signal(signal.SIGINT)
        assert list(events) == []  # a page that is open does not keep it
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()


LIVES = """
import json, os, sys
from firmware_host import Device
from firmware_host.serve.app import build_app
from firmware_host.serve.security import Allowance, Policy
from firmware_host.serve.server import Server, bound, names_of
from firmware_host.serve.service import Service

for line in sys.stdin:  # one life each: forked, so that a hundred of them cost no hundred interpreters
    child = os.fork()
    if child == 0:
        service = Service(Device.open(sys.argv[1], runtime="numpy"))
        listening = bound("127.0.0.1", 0)
        app = build_app(service, Policy(names_of("127.0.0.1")), Allowance(1e6, 10**6))
        print(json.dumps({"pid": os.getpid(), "port": listening.getsockname()[1]}), flush=True)
        Server(app, service.hub).serve_on(listening)
        os._exit(1)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.mark.slow
def test_a_hundred_kills_under_load_lose_no_lesson_that_was_acknowledged(bundle, picture):
    rng, images = np.random.default_rng(0), [png(picture(name, seed)) for name in NAMES for seed in range(5)]
    lives = subprocess.Popen(
        [sys.executable, "-c", LIVES, str(bundle)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    acknowledged = 0

    def teach(client, kills_at, answered, pid):
        try:
            while True:
                place = int(rng.integers(len(images)))
                answer = client(
                    "POST", f"/api/teach?label={NAMES[place // 5]}", images[place], {"content-type": "image/png"}
                )
                answered.append(answer.status)
                if len(answered) >= kills_at:
                    os.kill(pid, signal.SIGKILL)
        except (OSError, http.client.HTTPException):  # it is dead, or the answer was cut off
            return

    try:
        for life in range(100):
            lives.stdin.write(f"{life}\n")
            lives.stdin.flush()
            born = json.loads(lives.stdout.readline())
            client = Client(born["port"])
            counts = client.get("/api/classes").json["classes"]
            found = sum(each["images"] for each in counts) - 40
            assert acknowledged <= found <= acknowledged + 4  # the lessons whose answers did not come any more
            answered = []
            clients = [
                threading.Thread(target=teach, args=(client, int(rng.integers(1, 6)), answered, born["pid"]))
                for _ in range(3)
            ]
            for one in clients:
                one.start()
            for one in clients:
                one.join()
            assert lives.stdout.readline() == "dead\n"
            assert set(answered) == {200}
            acknowledged = found + len(answered)
    finally:
        lives.kill()
        lives.wait()
    assert acknowledged > 100
