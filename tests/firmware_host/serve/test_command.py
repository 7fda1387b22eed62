"""`serve` on the command line: what it refuses before it listens, and where it listens."""

import io
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.parse

import pytest
from helpers.paths import ROOT
from helpers.web_camera import picture, snapshots, web_camera
from PIL import Image

from firmware_host.cli import main
from firmware_host.serve.server import bound, is_loopback, names_of

from .conftest import JSON, Client


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--cert", "x.pem"], "--cert and --key belong together"),
        (["--cert", "x.pem", "--key", "y.pem"], "certificate x.pem with key y.pem cannot be used"),
        (["--host", "host.invalid"], "cannot listen on host.invalid"),
        (["--port", "99999"], "port is 99999: use a number from 1 to 65535"),
        (["--lessons", "0"], "lessons is 0.0: use a number above 0"),
        (["--rate", "nan"], "rate is nan"),
        (["--source", "webcam"], "source is 'webcam': use picamera"),
        (["--source", "screen", "--region", "0.5,0,0.6,1"], "region 0.5,0,0.6,1 is not inside the picture"),
        (["--agree", "0"], "agree is 0: use 1 or more"),
    ],
)
def test_bad_input_is_one_line(bundle, capsys, more, words):
    assert main(["serve", str(bundle), "--runtime", "numpy", "--port", "0", *more]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_port_in_use_is_one_line(bundle, capsys):
    with bound("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(bundle), "--runtime", "numpy", "--port", str(port)]) == 2
    assert f"port {port} (Address already in use): use another --host or --port" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_package_that_is_missing_is_one_line(bundle, capsys, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith(("firmware_host.serve.", package))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["serve", str(bundle), "--runtime", "numpy"]) == 2
    error = capsys.readouterr().err
    assert error.endswith('install it with pip install "keras-cbpnet[serve]"\n')
    assert error.count("\n") == 1


def test_no_other_command_needs_the_packages(bundle):
    code = (
        "import sys; sys.modules.update(starlette=None, uvicorn=None)\n"
        "from firmware_host.cli import main; sys.exit(main(['info', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, bundle], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_of_a_server():
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("board.local")
    assert names_of("127.0.0.1") == {"localhost", "127.0.0.1", "::1"}
    assert {"192.168.1.9", "pi.example"} < names_of("192.168.1.9", ("Pi.Example.",))
    assert "0.0.0.0" not in names_of("0.0.0.0")


@pytest.mark.slow
def test_any_other_address_has_tls_and_a_token_that_outlast_a_restart(bundle):
    command = [sys.executable, "-m", "firmware_host", "serve", str(bundle), "--runtime", "numpy", "--json"]
    said = []
    for _ in range(2):
        server = subprocess.Popen(
            [*command, "--host", "0.0.0.0", "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            record = json.loads(server.stdout.readline())
            url = urllib.parse.urlsplit(record["url"])
            assert url.scheme == "https"
            [token] = urllib.parse.parse_qs(url.query)["token"]
            client = Client(url.port, bundle.with_name("tiny.state") / "serve" / "cert.pem")
            assert client.get("/api/status").status == 401
            client.headers = {"authorization": f"Bearer {token}"}
            assert client.get("/api/status").json["bundle"] == "tiny"
            assert client("POST", "/api/classes/rename", '{"old": "red", "new": "red"}', JSON).status == 200
            client.certificate = ssl.get_default_verify_paths().cafile  # nobody else vouches for it
            with pytest.raises(ssl.SSLCertVerificationError):
                client.get("/api/status")
            said.append((token, record["fingerprint"]))
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert said[0] == said[1]
    assert os.listdir(bundle.with_name("tiny.state") / "serve")


@pytest.fixture
def start():
    """start(arguments): a process of the command, ended with the test."""
    running = []

    def start(*arguments):
        command = [sys.executable, "-m", "firmware_host", "serve", *map(str, arguments)]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_password_of_a_camera_is_shown_nowhere(bundle, start):
    with web_camera() as camera:
        camera.routes["/now.jpg"] = snapshots(picture((220, 30, 30)))
        source = ["--source", camera.address("/now.jpg?key=s3cr", "anna:s3cr"), "--region", "0.25,0.25,0.5,0.5"]
        server = start(bundle, "--runtime", "numpy", "--json", "--port", 0, *source)
        client = Client(urllib.parse.urlsplit(json.loads(server.stdout.readline())["url"]).port)
        events = client.listen()
        assert next(told for kind, told in events if kind == "prediction")["label"] == "red"
        assert Image.open(io.BytesIO(client.get("/api/frame").body)).size == (32, 24)
    lost = next(told for kind, told in events if kind == "camera" and told["error"])
    shown = f"http://***@127.0.0.1:{camera.port}/now.jpg?***"
    assert lost["source"] == shown
    server.send_signal(signal.SIGTERM)
    said = "".join(server.communicate(timeout=60)) + json.dumps(lost)
    assert f"camera lost: {shown} gives no picture" in said
    assert "s3cr" not in said
    assert "anna" not in said
