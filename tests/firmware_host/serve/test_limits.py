"""Attacks by what is sent, how much, how often and how slowly: each fails, and what is known stays as it was."""

import contextlib
import hashlib
import http.client
import io
import json
import re
import socket
import zipfile
import zlib

import numpy as np

from firmware_host.serve.server import bound

from .conftest import JSON, PNG, STATE


def ended(connection, dribble=b""):
    """Wait until the server lets go of a connection, on which these bytes are sent now and then."""
    connection.settimeout(0.05)
    for _ in range(400):
        try:
            if connection.recv(1) == b"":
                return True
        except socket.timeout:
            if dribble:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(dribble)
        except ConnectionError:
            return True
    return False


def test_a_body_too_long_is_refused_before_it_is_read(serve):
    client = serve().client
    before = client.known()
    for path, types, limit in (
        ("/api/predict", PNG, 8 << 20),
        ("/api/undo", JSON, 16 << 10),
        ("/api/state", STATE, 32 << 20),
    ):
        with socket.create_connection(("127.0.0.1", client.port), timeout=60) as attacker:
            head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {types['content-type']}\r\n"
            attacker.sendall(f"{head}content-length: {limit + 1}\r\n\r\n".encode())
            assert attacker.recv(100).startswith(b"HTTP/1.1 413")  # nothing of the body was sent
    endless = client("POST", "/api/undo", iter([b" " * 4096] * 20), JSON, encode_chunked=True)
    assert endless.status == 413
    assert client.known() == before


def test_a_body_that_does_not_arrive_is_not_waited_for(serve):
    client = serve(body_s=0.2).client
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as attacker:
        attacker.sendall(
            b"POST /api/undo HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: 9\r\n\r\n{"
        )
        assert attacker.recv(100).startswith(b"HTTP/1.1 408")
    assert client.get("/api/health").status == 200


def test_an_image_that_would_not_fit_is_not_decoded(shared_client):
    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = (20_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(60_001 * 100)))
        + chunk(b"IEND", b"")
    )
    assert len(bomb) < 10_000
    for path in ("/api/predict", "/api/teach?label=evil"):
        answer = shared_client("POST", path, bomb, PNG)
        assert (answer.status, "20000 x 20000" in answer.json["error"], "MiB" in answer.json["error"]) == (
            400,
            True,
            True,
        )
    assert shared_client.known()[1] == 0


def test_a_state_of_an_attacker_changes_nothing(serve, picture):
    client = serve().client
    client.teach(picture("blue"), "blue")
    state, before = client.get("/api/state").body, client.known()
    found = client.predict(picture("blue", 3)).json["probabilities"]

    def changed(change):
        """The state with other arrays and a checksum that holds."""
        with np.load(io.BytesIO(state)) as file:
            arrays = {name: file[name] for name in file.files}
        change(arrays)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        line = re.search(rb"\ncbpnet state schema .{6} generation .{20} sha256 ", state)
        body = buffer.getvalue() + line[0]
        return body + hashlib.sha256(body).hexdigest().encode() + b"\n"

    def meta(**values):
        def change(arrays):
            arrays["meta"] = np.array(json.dumps({**json.loads(str(arrays["meta"])), **values}))

        return change

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("meta.npy", bytes(50_000_000))
    attacks = {
        "cut": state[:-500],
        "bit": state[:900] + bytes([state[900] ^ 1]) + state[901:],
        "bomb": packed.getvalue(),
        "pickle": changed(lambda arrays: arrays.update(doubted=np.array([{}], object))),
        "infinite": changed(lambda arrays: arrays["head.w1"].fill(np.inf)),
        "shape": changed(lambda arrays: arrays.update({"statistics.mean": np.zeros((1, 1))})),
        "missing": changed(lambda arrays: arrays.pop("statistics.count")),
        "names": changed(meta(classes=[1, 2, 3])),
        "many": changed(meta(classes=[f"c{i}" for i in range(50)])),
        "generator": changed(meta(generator={"bit_generator": "no"})),
        "bundle": changed(meta(bundle="0" * 64, backbone="0" * 64)),
    }
    for name, content in attacks.items():
        answer = client("POST", "/api/state", content, STATE)
        assert answer.status == 400, (name, answer.body)
        assert "\n" not in answer.json["error"], name
    assert client.known() == before
    assert client.predict(picture("blue", 3)).json["probabilities"] == found
    assert client("POST", "/api/state", changed(lambda arrays: None), STATE).status == 200


def test_lessons_come_at_a_limited_rate_and_predictions_go_on(serve, picture):
    client = serve(lessons=1e-3, burst=2).client
    assert [client.teach(picture("blue", seed), "blue").status for seed in range(3)] == [200, 200, 429]
    refused = client.post("/api/undo")
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert client.known()[1] == 2
    assert client.predict(picture("blue")).status == 200


def test_clients_that_never_finish_a_request_are_let_go(serve):
    client = serve(head_s=0.5).client
    attackers = [socket.create_connection(("127.0.0.1", client.port), timeout=60) for _ in range(30)]
    for place, attacker in enumerate(attackers):
        attacker.sendall(b"GET /api/status HTTP/1.1\r\nhost: localhost\r\n" if place % 2 else b"G")
    assert client.get("/api/health").status == 200  # while they hold their connections
    for attacker in attackers:
        assert ended(attacker, b"x")  # a byte now and then does not help
        attacker.close()
    kept = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    for _ in range(2):  # one that is in time may send one request after the other
        kept.request("GET", "/api/health")
        assert kept.getresponse().read() == b'{"ok":true}'
    kept.sock.sendall(b"GET / HT")
    assert ended(kept.sock)
    kept.close()


def test_headers_without_end_are_refused(shared_client):
    with socket.create_connection(("127.0.0.1", shared_client.port), timeout=60) as attacker:
        attacker.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000)
        assert attacker.recv(100).startswith(b"HTTP/1.1 400")
    assert shared_client.get("/api/health").status == 200


def test_an_answer_waits_for_no_acknowledgement():
    """asyncio sets TCP_NODELAY where a socket says that it is TCP; without it an answer takes 40 ms more."""
    with bound("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
