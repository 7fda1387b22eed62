"""A device in a house, on a real broker: what Home Assistant hears of it, and what it can be told to do."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from firmware_host import Device, DeviceError


def test_what_the_camera_sees_is_told_when_it_changes(house, broker, watch, picture):
    watcher, inside = watch(broker), house(broker)
    assert watcher.next("cbpnet/test/status") == "online"
    assert watcher.state(lambda state: True) == dict.fromkeys(
        ("label", "probability", "percent", "unknown", "nearest", "group")
    )
    inside.camera.shown = picture("red")
    state = watcher.state(lambda state: state["label"])
    assert (state["label"], state["unknown"], state["nearest"]) == ("red", False, "red")
    assert state["percent"] == pytest.approx(100 * state["probability"], abs=0.1)
    for name in ("green", "red", "green"):
        inside.camera.shown = picture(name)
        assert watcher.state(lambda state: True)["label"] == name  # nothing was told in between
    inside.camera.shown = DeviceError("camera:0 gave no more after 9 frames: check it")
    assert watcher.state(lambda state: True)["label"] is None
    assert inside.said("camera", lambda line: not line.ok).text == "camera:0 gave no more after 9 frames: check it"
    inside.camera.shown = picture("red")
    assert watcher.state(lambda state: True)["label"] == "red"
    late = watch(broker)  # what is retained comes at once
    assert late.state(lambda state: True)["label"] == "red"


def test_it_says_offline_when_it_ends_and_when_it_is_killed(house, broker, watch):
    watcher, inside = watch(broker), house(broker)
    assert watcher.next("cbpnet/test/status") == "online"
    inside.home.close()
    assert watcher.next("cbpnet/test/status") == "offline"
    house(broker, folder=inside.service.device.bundle.path)
    assert watcher.next("cbpnet/test/status") == "online"


def test_lessons_are_saved_before_they_are_answered(house, broker, watch, picture, bundle):
    watcher, inside = watch(broker), house(broker)
    inside.camera.shown = picture("blue")
    watcher.state(lambda state: state["label"])
    watcher.send("cbpnet/test/teach", "blue")
    answer = watcher.result("teach")
    assert (answer["ok"], answer["text"].partition(",")[0]) == (True, "class blue is taught")
    reader = Device.open(bundle, runtime="numpy")  # as after a kill
    assert {known["name"]: known["images"] for known in reader.knowledge.classes()}["blue"] == 1
    assert watcher.state(lambda state: state["label"] == "blue")["unknown"] is False

    watcher.send("cbpnet/test/undo", "PRESS")
    assert watcher.result("undo") == {
        "command": "undo",
        "ok": True,
        "text": "the last lesson or change is taken back; saved",
    }
    assert "blue" not in inside.classes()
    watcher.send("cbpnet/test/undo", "PRESS")
    assert watcher.result("undo")["text"].startswith("nothing to undo")
    watcher.send("cbpnet/test/forget", "green")
    assert watcher.result("forget")["ok"]
    assert list(inside.classes()) == ["red"]
    watcher.send("cbpnet/test/save", "")
    assert watcher.result("save") == {"command": "save", "ok": True, "text": "saved"}


REFUSED = [
    ("teach", "", "a class name must be a text of 1 to 100 characters"),
    ("teach", "x" * 101, "a class name must be a text of 1 to 100 characters"),
    ("teach", "x" * 1025, "command teach has 1025 bytes: send 1024 at most"),
    ("teach", "x" * 100_000, "command teach has 100000 bytes"),
    ("teach", b"\xff\xfe", "command teach is not text"),
    ("teach", "a/b", "class name 'a/b' has a slash"),
    ("teach", "../../etc", "class name '../../etc' has a slash"),
    ("teach", "..", "class name '..' must be one line of text"),
    ("teach", "a\x00b", "must be one line of text"),
    ("teach", "a\nb", "must be one line of text"),
    ("teach", "\x1b[2J", "must be one line of text"),
    ("teach", " blue", "must be one line of text"),
    ("forget", "nobody", "nobody"),
    ("forget", "\x07", ""),
    ("undo", '{"all": true}', "send PRESS, or nothing"),
    ("save", "no", "send PRESS, or nothing"),
    ("undo", "", "nothing to undo"),
]


@pytest.mark.slow
def test_what_is_not_understood_is_refused_in_one_line(house, broker, watch, picture):
    watcher, inside = watch(broker), house(broker)
    inside.camera.shown = picture("red")
    watcher.state(lambda state: state["label"])
    before = inside.classes()
    for command, payload, words in REFUSED:
        watcher.send(f"cbpnet/test/{command}", payload)
        answer = watcher.result(command)
        assert not answer["ok"], (command, payload[:60])
        assert words in answer["text"]
        assert answer["text"].isprintable()
        assert len(answer["text"]) < 500
        assert inside.classes() == before
    watcher.send("cbpnet/test/teach", "red")
    assert watcher.result("teach")["ok"]  # it goes on


def test_a_huge_message_does_not_reach_it(house, broker, watch, picture):
    watcher, inside = watch(broker), house(broker)
    inside.camera.shown = picture("red")
    watcher.state(lambda state: state["label"])
    watcher.send("cbpnet/test/teach", b"x" * (8 << 20))
    watcher.send("cbpnet/test/teach", "red")
    assert watcher.result("teach")["ok"]  # the first answer: that message was not even sent to it
    assert inside.classes()["red"] == 21


def test_a_command_that_is_retained_is_not_obeyed(house, broker, watch, picture):
    watcher = watch(broker)
    watcher.send("cbpnet/test/forget", "red", retain=True)
    inside = house(broker)
    answer = watcher.result("forget")
    assert (answer["ok"], "retained" in answer["text"]) == (False, True)
    assert "red" in inside.classes()


def test_without_a_picture_nothing_is_taught(house, broker, watch):
    watcher, inside = watch(broker), house(broker)
    watcher.next("cbpnet/test/status")
    watcher.send("cbpnet/test/teach", "red")
    assert "no camera in use, or it gives no picture now" in watcher.result("teach")["text"]
    assert inside.classes()["red"] == 20


def test_the_broker_may_want_a_password(house, brokers, watch, tmp_path):
    from firmware_host.home.broker import Login

    passwords = tmp_path / "passwords"
    made = subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "door", "se cret"], capture_output=True)
    assert made.returncode == 0, made.stderr
    passwords.chmod(0o644)
    broker = brokers("allow_anonymous false", f"password_file {passwords}")
    refused = house(broker, Login("door", "wrong"), camera=False)
    line = refused.said("broker")
    assert not line.ok
    assert "refuses the connection (Not authorized)" in line.text
    refused.home.close()
    let_in = house(broker, Login("door", "se cret"), camera=False)
    assert let_in.said("broker").ok


def test_what_the_broker_does_not_allow_is_said_once(house, brokers, tmp_path):
    rights = tmp_path / "rights"
    rights.write_text("topic write cbpnet/test/state\ntopic read cbpnet/test/save\n")
    inside = house(brokers("allow_anonymous true", f"acl_file {rights}"), camera=False)
    refused = inside.said("broker", lambda line: not line.ok).text
    assert refused.endswith("does not let this device publish (Not authorized)")
    inside.home._commands.take("save", b"")
    inside.said("save")
    assert inside.lines.empty()
    # Mosquitto's list of rights does not refuse to be listened to; other brokers do.
    answers = [SimpleNamespace(is_failure=number == 0) for number in range(4)]
    inside.home._broker._on_subscribe(inside.home._broker._client, None, 1, answers, None)
    refused = inside.said("broker", lambda line: not line.ok).text
    assert refused.endswith("does not let this device listen to cbpnet/test/teach")


def test_home_assistant_finds_it(house, broker, watch):
    watcher = watch(broker)
    house(broker)
    watcher.next("cbpnet/test/state")
    found = {topic: json.loads(text) for topic, text in watcher.last.items() if topic.startswith("homeassistant/")}
    assert sorted(topic.removeprefix("homeassistant/").removesuffix("/config") for topic in found) == [
        "binary_sensor/cbpnet_0123/unknown",
        "button/cbpnet_0123/save",
        "button/cbpnet_0123/undo",
        "sensor/cbpnet_0123/class",
        "sensor/cbpnet_0123/probability",
        "sensor/cbpnet_0123/result",
        "text/cbpnet_0123/forget",
        "text/cbpnet_0123/teach",
    ]
    for config in found.values():
        assert config["availability_topic"] == "cbpnet/test/status"
        assert config["device"]["identifiers"] == ["cbpnet_0123"]
        assert config["device"]["name"] == "Front door"
    assert len({config["unique_id"] for config in found.values()}) == len(found)
    late = watch(broker)
    late.next("homeassistant/text/cbpnet_0123/teach/config")  # retained
