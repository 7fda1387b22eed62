"""The systemd units: no fault is in them, they are confined, and what they start works in that confinement."""

import http.client
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
from helpers.confined import calls, lacking, prefix, settings
from helpers.fake_frigate import jpeg
from helpers.paths import ROOT

from firmware_host import Device
from firmware_host.cli import build_parser

from .conftest import PATIENCE_S

UNITS = {
    name: ROOT / "firmware_host" / "systemd" / f"cbpnet-{name}.service" for name in ("fleet", "learn", "mqtt", "serve")
}
EXPOSURE = 29  # tenths; systemd's threshold is the first that fails
OPTIONS = {
    "fleet": "--broker 127.0.0.1 --group shop --key key",
    "mqtt": "--broker 127.0.0.1 --source camera:0",
    "serve": "--source camera:0 --host 0.0.0.0",
    "learn": "",
}
needs_confinement = pytest.mark.skipif(bool(lacking()), reason=lacking())
needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*arguments):
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})


def words_of(unit, options):
    """The command of a unit, as words, with this Python."""
    [line] = settings(UNITS[unit])["ExecStart"]
    return [sys.executable, *shlex.split(line.replace("$OPTIONS", options))[1:]]


@needs_analyze
@pytest.mark.parametrize("unit", UNITS)
def test_it_is_hardly_exposed(unit):
    if "--threshold" not in analyze("--help").stdout:
        pytest.skip("this systemd-analyze has no --threshold: it takes systemd 250")
    done = analyze("security", "--offline=yes", f"--threshold={EXPOSURE}", UNITS[unit])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


@needs_analyze
def test_a_unit_that_is_exposed_is_found(tmp_path):
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert analyze("security", "--offline=yes", f"--threshold={EXPOSURE}", bare).returncode != 0


@needs_analyze
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_no_fault_in_it(unit, tmp_path):
    copy = tmp_path / UNITS[unit].name
    for other in UNITS[unit].parent.iterdir():  # it names the others
        text = other.read_text(encoding="utf-8").replace("/opt/cbpnet/bin/python", sys.executable)
        (tmp_path / other.name).write_text(text, encoding="utf-8")
    done = analyze("verify", copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    copy.write_text(copy.read_text(encoding="utf-8") + "\n[Service]\nProtectSytem=strict\n", encoding="utf-8")
    assert "ProtectSytem" in analyze("verify", copy).stderr


@pytest.mark.parametrize("unit", UNITS)
def test_its_command_is_understood(unit):
    words = words_of(unit, OPTIONS[unit])
    assert words[1:3] == ["-m", "firmware_host"]
    build_parser("cbpnet").parse_args(words[3:])


def test_one_process_at_a_time_learns():
    services = ("fleet", "mqtt", "serve")
    for unit in services:
        others = {f"cbpnet-{other}.service" for other in services if other != unit}
        [line] = [line for line in UNITS[unit].read_text().splitlines() if line.startswith("Conflicts=")]
        assert set(line.partition("=")[2].split()) == {*others, "cbpnet-learn.timer"}


class Confined:
    """Starts the commands of units, confined as these say, where a bundle lies as they expect it."""

    def __init__(self, folder):
        self.folder, self.started = folder, []

    def __call__(self, unit, options="", more=()):
        command = [*prefix(UNITS[unit]), *words_of(unit, options), *more]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.started.append(
            subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return self.started[-1]

    def images(self):
        reader = Device.open(self.folder / "bundle", self.folder / "state", runtime="numpy")
        return {known["name"]: known["images"] for known in reader.knowledge.classes()}


@pytest.fixture
def confined(bundle, tmp_path):
    bundle.rename(tmp_path / "bundle")
    confined = Confined(tmp_path)
    yield confined
    for process in confined.started:
        process.kill()
        process.wait(PATIENCE_S)
        process.stdout.close()
        process.stderr.close()


@pytest.mark.slow
@needs_confinement
def test_what_is_not_needed_is_denied():
    assert "read" in calls("@system-service")
    code = (
        "import mmap, os, socket\n"
        "def said(work):\n"
        "    try: work()\n"
        "    except OSError as error: return error.errno\n"
        "print([said(work) for work in (lambda: os.chroot('/'), lambda: mmap.mmap(-1, 4096, prot=7),\n"
        "      lambda: socket.socket(socket.AF_INET), lambda: socket.socket(socket.AF_PACKET), os.getpid)])"
    )
    found = {}
    for unit in UNITS:
        command = [*prefix(UNITS[unit]), sys.executable, "-c", code]
        found[unit] = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("None", "null")
        )
    allowed = [1, 1, None, 97, None]
    assert found == {"learn": [1, 1, 97, 97, None], **dict.fromkeys(("fleet", "mqtt", "serve"), allowed)}


@pytest.mark.slow
@needs_confinement
def test_the_page_works_in_its_confinement(confined, picture):
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    process = confined("serve", "--port 0", ["--runtime", "numpy", "--json"])
    port = int(json.loads(process.stdout.readline())["url"].rpartition(":")[2].strip("/"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("POST", "/api/teach?label=blue", jpeg(picture("blue")), {"content-type": "image/jpeg"})
    assert connection.getresponse().status == 200
    connection.close()
    assert confined.images()["blue"] == 1


@pytest.mark.slow
@needs_confinement
def test_the_certificate_of_the_page_is_made_in_its_confinement(confined):
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    process = confined("serve", "--port 0 --host 0.0.0.0", ["--runtime", "numpy", "--json"])
    assert json.loads(process.stdout.readline())["fingerprint"]


@pytest.mark.slow
@needs_confinement
def test_telling_a_broker_works_in_its_confinement(confined, broker, watch, camera):
    watcher = watch(broker)
    options = f"--broker 127.0.0.1:{broker.port} --source {camera.url} --topic cbpnet/test --agree 1"
    process = confined("mqtt", options, ["--runtime", "numpy"])
    assert watcher.state(lambda state: state["label"])["label"] == "red"
    watcher.send("cbpnet/test/teach", "red")
    assert watcher.result("teach")["ok"]
    assert confined.images()["red"] == 21
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
