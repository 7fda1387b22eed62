"""`mqtt` on the command line: what it refuses before it connects, and a whole life in a process of its own."""

import json
import os
import signal
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from firmware_host import Device
from firmware_host.cli import main
from firmware_host.home.topics import broker_address, identity

from .conftest import PATIENCE_S, until


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "there is nothing to see: give --source, --frigate or --dataset"),
        (["--source", "webcam"], "source is 'webcam'"),
        (["--frigate", "frigate.local"], "frigate is 'frigate.local': use http://HOST:PORT"),
        (["--dataset", "nowhere"], "folder nowhere cannot be read"),
        (["--source", "camera:0", "--camera", "door"], "--camera and --label choose among the events of --frigate"),
        (["--dataset", ".", "--broker", "a b"], "broker is 'a b': use HOST or HOST:PORT"),
        (["--dataset", ".", "--broker", "host:99999"], "broker is 'host:99999'"),
        (["--dataset", ".", "--broker", "mqtt://host"], "broker is 'mqtt://host'"),
        (["--dataset", ".", "--broker", "user:secret@host"], "broker is"),
        (["--dataset", ".", "--topic", "a/#"], "topic is 'a/#'"),
        (["--dataset", ".", "--topic", "$SYS"], "topic is '$SYS'"),
        (["--dataset", ".", "--topic", "/a"], "topic is '/a'"),
        (["--dataset", ".", "--topic", "a\nb"], "topic is 'a\\nb'"),
        (["--dataset", ".", "--topic", "x" * 201], "topic is"),
        (["--dataset", ".", "--discovery-prefix", "+"], "discovery-prefix is '+'"),
        (["--dataset", ".", "--frigate-topic", "a+"], "frigate-topic is 'a+'"),
        (["--dataset", ".", "--name", "a\tb"], "device name 'a\\tb' must be one line of text"),
        (["--dataset", ".", "--password-file", "x"], "--password-file x is given without --username"),
        (["--dataset", ".", "--username", "me", "--password-file", "nowhere"], "nowhere"),
        (["--dataset", ".", "--username", "me", "--password-file", os.devnull], "has no password"),
        (["--dataset", ".", "--ca", "nowhere.pem"], "certificates nowhere.pem cannot be used"),
        (["--dataset", ".", "--rate", "0"], "rate is 0.0: use a number above 0"),
        (["--dataset", ".", "--agree", "0"], "agree is 0: use 1 or more"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(bundle, capsys, monkeypatch, tmp_path, more, words):
    pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed")
    monkeypatch.chdir(tmp_path)
    broker = [] if "--broker" in more else ["--broker", "127.0.0.1:9"]
    assert main(["mqtt", str(bundle), "--runtime", "numpy", *broker, *more]) == 2
    error = capsys.readouterr().err.splitlines()
    assert words in error[-1]
    assert len([line for line in error if line.startswith("error")]) == 1


def test_the_broker_has_to_be_named(bundle, capsys):
    assert main(["mqtt", str(bundle), "--source", "camera:0"]) == 2
    assert "--broker" in capsys.readouterr().err


def test_a_package_that_is_missing_is_one_line(bundle, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("firmware_host.home.", "paho"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "paho", None)
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    assert main(["mqtt", str(bundle), "--broker", "host", "--dataset", "."]) == 2
    error = capsys.readouterr().err
    assert error.endswith('install it with pip install "keras-cbpnet[mqtt]"\n')
    assert error.count("\n") == 1


def test_no_other_command_needs_the_package(bundle):
    code = (
        "import sys; sys.modules.update(paho=None)\n"
        "from firmware_host.cli import main; sys.exit(main(['info', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, bundle], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_of_the_page_is_needed():
    code = (
        "import sys; sys.modules.update(starlette=None, uvicorn=None, h11=None)\n"
        "import firmware_host.home.home, firmware_host.commands.mqtt"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_addresses_of_brokers(tmp_path):
    assert broker_address("pi.local", False) == ("pi.local", 1883)
    assert broker_address("pi.local", True) == ("pi.local", 8883)
    assert broker_address("10.0.0.2:1884", True) == ("10.0.0.2", 1884)
    assert broker_address("[fe80::1%eth0]:1883", False) == ("fe80::1%eth0", 1883)
    assert str(broker_address("::1", False)) == "[::1]:1883"
    assert identity(tmp_path) == identity(tmp_path)
    assert identity(tmp_path) != identity(tmp_path / "other")


@pytest.fixture
def run(bundle):
    """run(...): start the command in a process of its own; its lines are JSON."""
    started = []

    def run(port, *more):
        command = [sys.executable, "-m", "firmware_host", "mqtt", str(bundle), "--runtime", "numpy", "--json"]
        command += ["--broker", f"127.0.0.1:{port}", "--topic", "cbpnet/test", *more]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait(PATIENCE_S)
        process.stdout.close()
        process.stderr.close()


@pytest.mark.slow
def test_a_life_from_its_start_to_its_end(run, broker, watch, camera, picture, bundle):
    watcher = watch(broker)
    process = run(broker.port, "--source", camera.url, "--name", "Front door", "--agree", "2", "--rate", "100")
    first = json.loads(process.stdout.readline())
    assert first == {"broker": f"127.0.0.1:{broker.port}", "topic": "cbpnet/test", "device": "Front door"}
    assert watcher.state(lambda state: state["label"])["label"] == "red"
    camera.show(picture("blue"))
    watcher.state(lambda state: state["label"] != "red" or state["probability"] < 0.9)
    watcher.send("cbpnet/test/teach", "blue")
    assert watcher.result("teach")["ok"]
    assert watcher.state(lambda state: state["label"] == "blue")

    process.kill()  # the broker notices
    process.wait(PATIENCE_S)
    assert watcher.next("cbpnet/test/status", lambda status: status == "offline")
    process = run(broker.port, "--source", camera.url, "--name", "Front door", "--agree", "2", "--rate", "100")
    assert watcher.next("cbpnet/test/status") == "online"
    assert watcher.state(lambda state: state["label"])["label"] == "blue"  # it still knows
    second = run(broker.port, "--source", camera.url)
    assert second.wait(PATIENCE_S) == 2
    assert "in use" in second.stderr.read()

    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert watcher.next("cbpnet/test/status") == "offline"
    reader = Device.open(bundle, runtime="numpy")
    assert {known["name"]: known["images"] for known in reader.knowledge.classes()}["blue"] == 1
    said = [json.loads(line) for line in process.stdout.read().splitlines()]
    assert {"command": "broker", "ok": True, "text": f"connected to 127.0.0.1:{broker.port}"} in said
    assert process.stderr.read() == ""


@pytest.mark.slow
@pytest.mark.parametrize("answers", [1, 4])
def test_after_a_kill_it_knows_what_was_answered(run, broker, watch, camera, bundle, answers):
    watcher = watch(broker)
    process = run(broker.port, "--source", camera.url, "--agree", "1", "--rate", "100")
    watcher.state(lambda state: state["label"])
    for _ in range(12):
        watcher.send("cbpnet/test/teach", "red")
    for _ in range(answers):
        assert watcher.result("teach")["ok"]
    process.kill()
    process.wait(PATIENCE_S)
    [red, *_] = Device.open(bundle, runtime="numpy").knowledge.classes()
    assert 20 + answers <= red["images"] <= 32


def test_it_ends_while_there_is_no_broker(run, camera):
    process = run(9, "--source", camera.url)
    process.stdout.readline()
    line = json.loads(process.stdout.readline())
    while line["command"] != "broker":
        line = json.loads(process.stdout.readline())
    assert (line["ok"], "trying again" in line["text"]) == (False, True)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_by_tls_the_broker_must_be_the_one(run, brokers, watch, tmp_path, monkeypatch):
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name, address in (("good", "127.0.0.1"), ("other", "127.0.0.2")):
        files = ["-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"]
        about = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{address}", "-days", "2"]
        subprocess.run([*made, *files, *about], check=True, capture_output=True)
    tls = [f"certfile {tmp_path / 'good.pem'}", f"keyfile {tmp_path / 'good.key'}", "allow_anonymous true"]
    broker = brokers(*tls)
    (tmp_path / "inbox").mkdir()

    def line(*more):
        process = run(broker.port, "--dataset", str(tmp_path / "inbox"), *more)
        process.stdout.readline()
        said = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        return said

    assert line("--ca", str(tmp_path / "good.pem"))["ok"]
    for trusted in (["--ca", str(tmp_path / "other.pem")], ["--tls"]):
        refused = line(*trusted)
        assert not refused["ok"]
        assert "certificate verify failed" in refused["text"]


def test_the_password_is_in_a_file(run, brokers, tmp_path):
    passwords, file = tmp_path / "passwords", tmp_path / "password"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "door", "se cret"], check=True, capture_output=True)
    file.write_text("se cret\n")
    broker = brokers("allow_anonymous false", f"password_file {passwords}")
    (tmp_path / "inbox").mkdir()
    process = run(broker.port, "--dataset", str(tmp_path / "inbox"), "--username", "door", "--password-file", str(file))
    process.stdout.readline()
    assert json.loads(process.stdout.readline())["ok"]
    until(lambda: process.poll() is None)
