"""Attacks, each of which fails and leaves what the device knows as it was."""

import pytest

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
