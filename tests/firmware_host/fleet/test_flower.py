"""Flower: the folder for `flwr run`, programs without telemetry, and a run over the loopback with two SuperNodes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomllib
from helpers.paths import ROOT
from runtimes.environments import UnavailableError, made_once, pythons, run

from firmware_host import Device
from keras_cbpnet import cli
from keras_cbpnet.__main__ import main
from keras_cbpnet.errors import UserError
from keras_cbpnet.fleet import flower

ANSWER_S = 240


def pyproject(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_the_folder_names_both_apps_and_the_bundle(banked, tmp_path, capsys):
    assert cli.run(main, ["fleet", "app", str(tmp_path / 'a "quoted" app'), str(banked)]) == 0
    found = pyproject(tmp_path / 'a "quoted" app' / "pyproject.toml")["tool"]["flwr"]["app"]
    assert found["components"] == {
        "serverapp": "keras_cbpnet.fleet.server:app",
        "clientapp": "firmware_host.fleet.flower:app",
    }
    assert found["config"]["bundle"] == str(banked)
    assert found["config"]["folder"] == str(tmp_path / 'a "quoted" app.deltas')
    assert "flower flwr run" in capsys.readouterr().out


def test_the_extra_installs_what_the_folder_wants(banked, tmp_path):
    file = flower.write_app(tmp_path / "app", banked)
    wanted = pyproject(file)["tool"]["flwr"]["app"]["flwr-version-target"]
    [extra] = [
        each
        for each in pyproject(ROOT / "pyproject.toml")["project"]["optional-dependencies"]["fleet"]
        if each.startswith("flwr")
    ]
    assert extra.startswith(f"flwr>={wanted.rpartition('.')[0]},")


def test_programs_start_without_telemetry_and_update_checks(monkeypatch, tmp_path):
    (tmp_path / "flower-superlink").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    seen = []
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(os, "execve", lambda *given: seen.append(given))
    flower.start("superlink", ["--insecure"], {"PATH": "elsewhere", "HOME": "h"})
    [(path, words, settings)] = seen
    assert (path, words) == (tmp_path / "flower-superlink", [str(tmp_path / "flower-superlink"), "--insecure"])
    assert settings["FLWR_TELEMETRY_ENABLED"] == "0"
    assert settings["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert settings["PATH"].split(os.pathsep) == [str(tmp_path), "elsewhere"]
    flower.start("superlink", [], {"FLWR_TELEMETRY_ENABLED": "1"})  # who wants it has it
    assert seen[1][2]["FLWR_TELEMETRY_ENABLED"] == "1"


def test_what_follows_a_program_is_given_to_it_as_it_is(monkeypatch):
    seen = []
    monkeypatch.setattr(flower, "start", lambda *given: seen.append(given))
    main(["fleet", "flower", "flwr", "run", "app", "here", "--stream", "-c", "rounds=1", "--help"])
    assert seen == [("flwr", ["run", "app", "here", "--stream", "-c", "rounds=1", "--help"])]


def test_a_program_that_is_not_installed_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match=r"flower-supernode is not installed: .*keras-cbpnet\[fleet\]"):
        flower.start("supernode", [])


# --- with Flower, in an environment of its own: it holds back packages that others here need newer ----------------
def environment():
    """Python of an environment with the extra `fleet`, made once under build/."""
    found = pythons()
    if "3.11" not in found:
        raise UnavailableError("no Python 3.11 under pyenv or on the PATH")
    extras = pyproject(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
    with made_once("python-3.11-fleet") as (folder, complete):
        if not complete:
            run([found["3.11"], "-m", "venv", folder], "no environment")
            wanted = [*extras["fleet"], *extras["device"], "numpy<3"]
            run([folder / "bin" / "python", "-m", "pip", "install", "-q", *wanted], "no Flower")
    return folder / "bin" / "python"


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
def program(tmp_path):
    """program(PROGRAM, *arguments): a program of Flower in the background; its output goes into PROGRAM's log."""
    try:
        python = environment()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    (tmp_path / "home").mkdir()
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "FLWR_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": "ignore"}
    started = []

    def program(name, *arguments, log=None):
        words = [python, "-m", "keras_cbpnet.fleet", "flower", name, *map(str, arguments)]
        with open(tmp_path / (log or f"{name}.log"), "w") as file:
            started.append(
                subprocess.Popen(
                    words, cwd=tmp_path, env=settings, stdout=file, stderr=file, start_new_session=True
                )
            )  # fmt: skip
        return started[-1]

    yield program
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGTERM)
    for one in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)  # what it started


def until(holds, process, log: Path):
    end = time.monotonic() + ANSWER_S
    while not holds():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def listening(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_two_supernodes_share_over_the_loopback(banked, tmp_path, make, program):
    taught = ({"blue": 8}, {"white": 7})
    for number, lessons in enumerate(taught):
        with Device.open(banked, tmp_path / f"state-{number}", runtime="numpy") as device:
            for label, n in lessons.items():
                device.learn(*make.images([label], n, number), epochs=1)
            device.save()
    flower.write_app(tmp_path / "app", banked)
    port, *own = free_ports(3)
    link = program(
        "superlink", "--insecure", "--host", "127.0.0.1", "--port", port, "--disable-runtime-dependency-installation"
    )
    (tmp_path / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    until(lambda: listening(port), link, tmp_path / "superlink.log")
    for number in range(2):
        config = f'bundle="{banked}" state="{tmp_path / f"state-{number}"}" runtime="numpy"'
        place = ("--superlink", f"127.0.0.1:{port}", "--port", own[number])
        program("supernode", "--insecure", *place, "--node-config", config, log=f"supernode-{number}.log")
    settings = f"rounds=1 nodes=2 timeout-s={ANSWER_S}.0"
    running = program("flwr", "run", "app", "here", "--stream", "-c", settings)
    log = tmp_path / "flwr.log"
    until(lambda: "round 1:" in log.read_text(), running, log)
    assert "2 of 2 nodes took over what 2 devices were taught, 2 of them something new" in log.read_text()
    assert len(list((tmp_path / "app.deltas" / "fleet").glob("*.delta"))) == 2
    for number in range(2):
        with Device.open(banked, tmp_path / f"state-{number}", runtime="numpy") as device:
            assert device.classes == ("red", "green", "blue", "white")
            assert device.evaluate(*make.images(["blue", "white"], 10, 9))["accuracy"] > 0.9
