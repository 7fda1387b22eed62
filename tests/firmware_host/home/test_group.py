"""Devices in a group on a real broker, and the command that starts them."""

import json
import queue
import signal
import subprocess
import sys
import threading

import pytest
from helpers.paths import ROOT

from firmware_host.bundle import DeviceError
from firmware_host.cli import main
from firmware_host.fleet.sign import Key

from .conftest import PATIENCE_S, until


@pytest.fixture
def key(tmp_path):
    Key.make(tmp_path / "key")
    return tmp_path / "key"


class Member:
    def __init__(self, group, service):
        self.group, self.service, self.lines, self.error = group, service, queue.Queue(), None
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        group.start()

    def _read(self):
        try:
            for line in self.group.lines():
                self.lines.put(line)
        except BaseException as error:
            self.error = error

    def knows(self):
        return self.service.later(
            lambda: {known["name"]: known["images"] for known in self.service.device.knowledge.classes()}
        ).result()


@pytest.fixture
def join(bundle, make, monkeypatch, key, tmp_path):
    """join(broker, name, taught): a device in the group."""
    pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed")
    from firmware_host import Device
    from firmware_host.fleet import exchange, group
    from firmware_host.home.broker import Login
    from firmware_host.home.topics import Address
    from firmware_host.serve.service import Service

    monkeypatch.setattr(exchange, "SETTLE_S", 0.2)
    monkeypatch.setattr(exchange, "RELAY_S", (0.3, 0.5))
    monkeypatch.setattr(group, "TICK_S", 0.02)
    members = []

    def join(broker, name, taught=None, seed=5, secret=None, token=None, **options):
        device = Device.open(bundle, tmp_path / f"{name}.state", runtime="numpy")
        if token is not None:
            device._working.device = token
        for label, n in (taught or {}).items():
            device.learn(*make.images([label], n, seed), epochs=1)
        service = Service(device)
        place = group.Place(Address("127.0.0.1", broker.port), Login(), "cbpnet/fleet/test")
        secret = secret or Key.read(key, "test")
        members.append(
            Member(
                group.Group(service, device.knowledge.sharing(), secret, place, 0.1, delays_s=(0.05, 0.2), **options),
                service,
            )
        )
        return members[-1]

    join.leave = lambda member: (members.remove(member), member.group.close())
    yield join
    for member in members:
        member.group.close()
        member.group.end()
        member.reader.join(PATIENCE_S)


ALL = {"red": 20, "green": 20, "blue": 8, "white": 7}


def test_devices_come_to_know_what_each_was_taught_and_a_new_one_all_of_it(join, broker):
    one, other = join(broker, "one", {"blue": 8}), join(broker, "other", {"white": 7})
    until(lambda: one.knows() == other.knows() == ALL)
    join.leave(one)
    late = join(broker, "late")
    until(lambda: late.knows() == ALL)
    heads = [member.service.device._working.head.get_state() for member in (late, other)]
    assert all((heads[0][name] == heads[1][name]).all() for name in heads[0])
    status = late.group.status().text
    assert status.startswith("2 devices; ")
    assert "an hour; 0 messages refused" in status


def test_a_broker_that_has_forgotten_everything_is_told_everything(join, broker):
    one, other = join(broker, "one", {"blue": 8}), join(broker, "other", {"white": 7})
    until(lambda: one.knows() == other.knows() == ALL)
    join.leave(one)
    broker.kill()
    broker.start()
    late = join(broker, "late")
    until(lambda: late.knows() == ALL)  # what the one taught is told by the other


def test_a_lesson_is_told_and_a_stranger_is_not_heard(join, broker, picture):
    one, other = join(broker, "one", {"blue": 8}), join(broker, "other")
    until(lambda: other.knows()["blue"] == 8 if "blue" in other.knows() else False)
    stranger = join(broker, "stranger", {"white": 9}, secret=Key(b"another key that is long enough", "test"))
    until(lambda: stranger.group.exchange.refused > 0)
    one.service.later(lambda: one.service.teach(picture("blue", 9), "blue")).result()
    until(lambda: other.knows()["blue"] == 9)
    assert "white" not in other.knows()
    until(lambda: any("is not signed by this group's key" in line.text for line in list(other.lines.queue)))


def test_two_devices_with_one_number_end_with_one_line(join, broker):
    first = join(broker, "first", {"blue": 8}, token="same")
    until(lambda: f"cbpnet/fleet/test/delta/{first.group._sharing.device}" and first.group.exchange._announced)
    second = join(broker, "second", {"white": 7}, token="same")
    until(lambda: first.error or second.error)
    assert all(isinstance(each.error, (DeviceError, type(None))) for each in (first, second))


def test_messages_larger_than_a_mebibyte_arrive(brokers, watch):
    """As deltas of many classes are."""
    from firmware_host.home.broker import Broker, Login
    from firmware_host.home.topics import Address

    broker, got, there = brokers(), queue.Queue(), threading.Event()
    address = Address("127.0.0.1", broker.port)
    made = Broker(
        address, Login(), "t/status", ["t/version/+"], got.put, lambda line: there.set(), got.put, largest=3 << 20
    )
    made.start()
    assert there.wait(PATIENCE_S)
    made.retain("t/delta/x", bytes(2 << 20))
    watch(broker)
    made.fetch("t/delta/x")
    assert len(got.get(timeout=PATIENCE_S).payload) == 2 << 20
    made.retain("t/delta/x", b"next")  # it is asked for once
    made.retain("t/version/x", b"version")
    assert got.get(timeout=PATIENCE_S).payload == b"version"
    made.close()


@pytest.mark.slow
def test_the_command(bundle, broker, key, make, tmp_path, watch):
    from firmware_host import Device

    with Device.open(bundle, tmp_path / "one.state", runtime="numpy") as device:
        device.learn(*make.images(["blue"], 8), epochs=1)
        device.save()
    inbox = make.folder_of_images(tmp_path / "inbox", names=("white",), each=1)
    command = [sys.executable, "-m", "firmware_host", "fleet", str(bundle), "--broker", f"127.0.0.1:{broker.port}"]
    command += ["--group", "test", "--key", str(key), "--json", "--runtime", "numpy", "--dataset", str(inbox)]
    watcher = watch(broker)
    process = subprocess.Popen(
        [*command, "--state", str(tmp_path / "one.state")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        first = json.loads(process.stdout.readline())
        assert first["topic"] == "cbpnet/fleet/test"
        topic = f"cbpnet/fleet/test/version/{first['device']}"
        until(lambda: topic in watcher.last)
        assert '"version": ' in watcher.last[topic]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        last = [json.loads(line) for line in process.stdout.read().splitlines()][-1]
        assert "1 devices; " in last["text"]
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--group", "a/b"], "group is 'a/b': use up to 64"),
        (["--every-s", "0"], "every-s is 0.0"),
        (["--min-images", "99"], "min-images is 99: use 1 to 16"),
        (["--noise", "-1"], "noise is -1"),
        (["--key", "none"], "key file none is not there"),
        (["--password-file", "x"], "without --username"),
        (["--broker", "a b"], "broker is 'a b'"),
        (["--revoke", "x"], "device 'x' is not the number of one"),
    ],
)
def test_bad_options_end_with_one_line(bundle, key, change, said, capsys, make, tmp_path):
    pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed")
    options = {"--broker": "127.0.0.1:1", "--group": "test", "--key": str(key), "--runtime": "numpy"}
    options.update({change[0]: change[1]})
    before = make.tree(bundle, tmp_path / "state")
    words = [word for pair in options.items() for word in pair]
    assert main(["fleet", str(bundle), "--state", str(tmp_path / "state"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    after = {name: value for name, value in make.tree(bundle, tmp_path / "state").items() if not name.endswith("lock")}
    assert after == before


def test_a_key_is_made_without_a_broker(bundle, capsys, tmp_path):
    words = ["fleet", str(bundle), "--group", "test", "--key", str(tmp_path / "new"), "--new-key"]
    assert main(words) == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err
