"""The broker goes and comes back: nothing is lost, nothing old is told as new, no attempt follows at once."""

import json
import socket
import threading
import time

import pytest

from firmware_host.home.said import Line

from .conftest import PATIENCE_S, free_port, until


def test_what_came_of_lessons_in_an_outage_is_told_after_it(house, brokers, watch, picture, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    saving = ("persistence true", f"persistence_location {kept}/", "autosave_on_changes true", "autosave_interval 1")
    broker = brokers("allow_anonymous true", *saving)
    watch(broker, "watcher").close()
    until(lambda: any(b"watcher" in file.read_bytes() for file in kept.iterdir()))
    inside = house(broker)
    inside.said("broker", lambda line: line.ok)
    inside.shows(picture("red"))

    broker.kill()
    lost = inside.said("broker", lambda line: not line.ok)
    assert f"127.0.0.1:{broker.port}" in lost.text
    assert lost.text.endswith(": trying again")
    for label in ("blue", "white", "blue"):  # a lesson that was begun, or one of a folder
        inside.shows(picture(label))
        inside.home._commands.take("teach", label.encode())
        assert inside.said("teach").ok
    inside.home._commands.take("undo", b"")
    assert inside.said("undo").ok
    assert inside.classes() == {"red": 20, "green": 20, "blue": 1, "white": 1}

    broker.start()
    inside.said("broker", lambda line: line.ok)
    watcher = watch(broker, "watcher")
    answers = [json.loads(watcher.next("cbpnet/test/result")) for _ in range(4)]
    assert [answer["command"] for answer in answers] == ["teach", "teach", "teach", "undo"]
    assert all(answer["ok"] for answer in answers)
    assert inside.lines.empty()  # nothing was said of the attempts in between


def test_a_broker_that_has_forgotten_everything_is_told_everything(house, broker, watch, picture):
    inside = house(broker)
    inside.said("broker", lambda line: line.ok)
    broker.kill()
    inside.said("broker", lambda line: not line.ok)
    inside.shows(picture("red"))
    broker.start()
    inside.said("broker", lambda line: line.ok)
    late = watch(broker)
    until(lambda: late.last.get("cbpnet/test/status") == "online")
    until(lambda: json.loads(late.last.get("cbpnet/test/state", '{"label": null}'))["label"] == "red")
    until(lambda: "homeassistant/sensor/cbpnet_0123/class/config" in late.last)


@pytest.mark.slow
def test_the_state_at_the_end_is_the_newest_one(house, broker, watch, picture):
    """What the broker had not acknowledged is sent again by paho, and may be old: it must not be told last."""
    inside = house(broker)
    inside.said("broker", lambda line: line.ok)
    for name in ("red", "green") * 5:
        inside.camera.shown = picture(name)
        broker.kill()  # what was on its way is lost with it
        inside.said("broker", lambda line: not line.ok)
        broker.start()
        inside.said("broker", lambda line: line.ok)
        assert watch(broker).state(lambda state, name=name: state["label"] == name)
    inside.home.close()  # the broker has all of it then
    assert watch(broker).state(lambda state: True)["label"] == "green"


@pytest.mark.slow
def test_the_attempts_become_fewer(house):
    """Counted at a port that takes connections and ends them: at most as many as the delays allow, and they go on."""
    attempts, ended = [], threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer():
            while not ended.is_set():
                visitor, _ = door.accept()
                attempts.append(time.monotonic())
                visitor.close()
                if len(attempts) == 7:
                    ended.set()

        threading.Thread(target=answer, daemon=True).start()
        inside = house(None, port=door.getsockname()[1], delays_s=(0.1, 0.8), camera=False)
        assert ended.wait(PATIENCE_S)
    apart = [after - before for before, after in zip(attempts, attempts[1:])]
    for waited, least in zip(apart, (0.1, 0.2, 0.4, 0.8, 0.8, 0.8)):
        assert waited >= 0.9 * least
    assert not inside.said("broker").ok
    assert inside.lines.empty()  # said once


def test_a_broker_that_is_not_there_yet_is_waited_for(house, brokers, watch, monkeypatch):
    port = free_port()
    inside = house(None, port=port, camera=False)
    line = inside.said("broker")
    assert line == Line("broker", False, f"127.0.0.1:{port} cannot be reached (Connection refused): trying again")
    from . import conftest

    monkeypatch.setattr(conftest, "free_port", lambda: port)
    brokers()
    assert inside.said("broker") == Line("broker", True, f"connected to 127.0.0.1:{port}")


def test_too_much_that_waits_is_said_and_not_kept(house, monkeypatch):
    from firmware_host.home import broker as module

    monkeypatch.setattr(module, "QUEUED", 3)
    inside = house(None, port=free_port(), camera=False)
    for _ in range(4):
        inside.home._commands.take("save", b"")
        inside.said("save")
    assert inside.said("broker", lambda line: "wait" in line.text).text.startswith("3 messages wait for it already")
