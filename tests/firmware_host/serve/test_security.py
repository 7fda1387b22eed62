"""Attacks, each of which fails and leaves what the device knows as it was."""

import contextlib
import http.client
import io
import json
import re
import socket
import stat
import zipfile
import zlib

import numpy as np
import pytest

from firmware_host import DeviceError
from firmware_host.serve.secrets import device_certificate, device_token, given_certificate

from .conftest import JSON, PNG, STATE, png

TOKEN = "t" * 43
WRITES = [
    ("/api/classes", b'{"name": "evil"}', JSON),
    ("/api/classes/forget", b'{"name": "red"}', JSON),
    ("/api/classes/rename", b'{"old": "red", "new": "evil"}', JSON),
    ("/api/undo", b"{}", JSON),
    ("/api/teach?label=evil", None, PNG),
    ("/api/teach", b'{"label": "evil", "image": 1}', JSON),
    ("/api/state", None, STATE),
]
READS = ["/", "/static/page.js", "/metrics", "/api/status", "/api/state", "/api/classes", "/api/events", "/api/frame"]


@pytest.fixture
def guarded(serve, picture):
    """A server with a token, something to undo and a picture held; and what an attacker would send to each address."""
    serving = serve(token=TOKEN)
    owner = serving.client
    owner.headers = {"authorization": f"Bearer {TOKEN}"}
    owner.teach(picture("blue"), "blue")
    state = owner.get("/api/state").body
    bodies = {"/api/teach?label=evil": png(picture("white")), "/api/state": state}
    return owner, [(path, bodies.get(path, body), headers) for path, body, headers in WRITES]


def attacked(owner, writes, status, **headers):
    """Send every write with these headers, but not the owner's; each fails and nothing changes."""
    before = owner.known()
    stranger = type(owner)(owner.port)
    for path, body, types in writes:
        answer = stranger("POST", path, body, {**types, **headers})
        assert answer.status == status, (path, answer.body)
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert owner.known() == before


def cookie(owner):
    return f"cbpnet-{owner.port}={TOKEN}"


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


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "localhost@evil.example", "", "[::1"]
)
def test_dns_rebinding(shared_client, host):
    before = shared_client.known()
    for path in READS:
        assert shared_client.get(path, host=host).status == 421
    assert shared_client("POST", "/api/classes", '{"name": "evil"}', {**JSON, "host": host}).status == 421
    assert shared_client.known() == before


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "LOCALHOST:1", "[::1]:99", "localhost."])
def test_its_own_names_are_answered(shared_client, host):
    assert shared_client.get("/api/status", host=host).status == 200


def test_without_the_token_nothing_is_answered(guarded):
    owner, writes = guarded
    stranger = type(owner)(owner.port)
    own = f"http://127.0.0.1:{owner.port}"
    for given in (
        {},
        {"authorization": "Bearer " + "u" * 43},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer "},
        {"cookie": f"cbpnet-{owner.port}="},
        {"cookie": f"cbpnet-1={TOKEN}"},
        {"cookie": f"cbpnet-{owner.port}={TOKEN[:-1]}é"},
    ):
        for path in READS:
            assert stranger.get(path, **given).status == 401
        attacked(owner, writes, 401, origin=own, **given)
    assert stranger.get("/?token=guess").status == 401
    assert stranger.get(f"/api/status?token={TOKEN}").status == 401  # an address alone never changes or tells anything
    assert stranger("POST", f"/api/undo?token={TOKEN}", "{}", JSON).status == 401


def test_the_printed_address_gives_a_cookie_that_scripts_and_other_sites_do_not_get(guarded):
    owner, _ = guarded
    answer = type(owner)(owner.port).get(f"/?token={TOKEN}")
    assert answer.status == 200
    assert b"url=/" in answer.body
    assert TOKEN.encode() not in answer.body
    given, *attributes = [part.strip().lower() for part in answer.headers["set-cookie"].split(";")]
    assert given == cookie(owner)
    assert {"httponly", "samesite=strict", "path=/"} <= set(attributes)
    assert answer.headers["referrer-policy"] == "no-referrer"
    page = type(owner)(owner.port, cookie=cookie(owner), origin=f"http://127.0.0.1:{owner.port}")
    assert page.get("/api/status").status == 200
    assert page.post("/api/undo").status == 200


def test_another_page_cannot_write_with_the_browsers_cookie(guarded):
    owner, writes = guarded
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{owner.port}", "http://127.0.0.1:1", ""):
        attacked(owner, writes, 403, cookie=cookie(owner), origin=origin)
    attacked(owner, writes, 403, cookie=cookie(owner))  # a form of old browsers names no origin
    own = f"http://127.0.0.1:{owner.port}"
    attacked(owner, writes, 403, cookie=cookie(owner), origin=own, **{"sec-fetch-site": "cross-site"})
    attacked(owner, writes, 403, authorization=f"Bearer {TOKEN}", origin="http://evil.example")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "text/plain; application/json",
    ],
)
def test_what_a_form_can_send_is_not_taken(shared_client, kind):
    before = shared_client.known()
    for path, body, _ in WRITES:
        assert shared_client("POST", path, body or b"x", {"content-type": kind}).status == 415
    assert shared_client.known() == before


def test_another_page_cannot_write_to_a_server_without_a_token(shared_client):
    before = shared_client.known()
    for origin in ("http://evil.example", "null", f"http://localhost.evil.example:{shared_client.port}"):
        for path, body, types in WRITES:
            assert shared_client("POST", path, body or b"x", {**types, "origin": origin}).status == 403
    assert shared_client.known() == before


def test_another_page_reads_nothing(shared_client):
    for path in READS:
        answer = shared_client.get(path, **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"})
        assert answer.status == 403
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert shared_client.get("/", **followed).status == 200  # a link to the page is not an attack
    assert shared_client.get("/api/state", **followed).status == 403
    preflight = shared_client("OPTIONS", "/api/teach", headers={"origin": "http://evil.example"})
    assert preflight.status >= 400
    for answer in (preflight, shared_client.get("/api/status"), shared_client.get("/none")):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_every_answer_forbids_what_is_not_its_own(shared_client):
    for path in (*(read for read in READS if read != "/api/events"), "/none", "/static/none"):
        headers = shared_client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
    assert shared_client.get("/api/state").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e%2fapp.py",
        "/static/..%5capp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/..%2f..%2fetc/passwd",
        "/static/index.html/",
    ],
)
def test_no_path_leads_out_of_the_page(shared_client, path):
    assert shared_client.get(path).status in (307, 404)
    assert b"import" not in shared_client.get(path).body


def test_a_label_is_a_name_and_never_a_path(serve, make, bundle, picture):
    client, name = serve().client, "blue"
    client.teach(picture("blue"), name)
    client.post("/api/classes/rename", {"old": name, "new": name})
    files = set(make.tree(bundle.parent))
    for label in ("../../evil", "/tmp/evil", "..\\evil", "evil\u202etxt", "<img src=x>", "C:evil", "%2e%2e"):
        assert client.post("/api/classes/rename", {"old": name, "new": label}).status == 200
        assert client.get("/api/classes").json["classes"][2]["name"] == label
        name = label
    assert set(make.tree(bundle.parent)) - files <= {str(bundle.parent / "tiny.state" / "state.earlier.npz")}


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
        import hashlib

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


def test_tls_by_the_devices_own_certificate(serve, tmp_path):
    import hashlib

    certificate = device_certificate(tmp_path / "state", frozenset({"localhost", "127.0.0.1", "::1", "board.local"}))
    assert device_certificate(tmp_path / "state", frozenset()) == certificate  # it stays the same
    client = serve(token=TOKEN, certificate=certificate).client
    connection = client.connect()
    connection.connect()
    shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True)).hexdigest().upper()
    connection.close()
    assert certificate.fingerprint.replace(":", "") == shown
    cookie = client.get(f"/?token={TOKEN}").headers["set-cookie"]
    assert "secure" in cookie.lower()
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        type(client)(client.port).get("/")  # without TLS
    assert (
        client(
            "POST",
            "/api/undo",
            "{}",
            {**JSON, "cookie": cookie.partition(";")[0], "origin": f"http://127.0.0.1:{client.port}"},
        ).status
        == 403
    )


def test_secrets_are_for_this_user_alone(tmp_path):
    token = device_token(tmp_path)
    device_certificate(tmp_path, frozenset({"localhost"}))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "serve").iterdir()}
    assert (modes["token"], modes["key.pem"], set(modes)) == (0o600, 0o600, {"token", "key.pem", "cert.pem"})
    assert stat.S_IMODE((tmp_path / "serve").stat().st_mode) == 0o700
    assert device_token(tmp_path) == token
    assert device_token(tmp_path, renew=True) != token
    (tmp_path / "serve" / "token").write_text("short\n")
    assert len(device_token(tmp_path)) == 43


def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path):
    good = device_certificate(tmp_path, frozenset({"localhost"}))
    other = device_certificate(tmp_path / "other", frozenset({"localhost"}))
    (tmp_path / "no.pem").write_text("no")
    for cert, key in ((good.cert, other.key), (tmp_path / "no.pem", good.key), (tmp_path / "none", good.key)):
        with pytest.raises(DeviceError, match=r"cannot be used .*: give PEM files"):
            given_certificate(cert, key)
