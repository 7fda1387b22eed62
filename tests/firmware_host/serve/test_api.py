"""The API: what it does, and that its description says the same."""

import io
import json
import re
import shutil
import urllib.parse
from importlib import resources

import jsonschema
import numpy as np
import pytest
from PIL import Image
from starlette.routing import Route

from firmware_host import Device
from firmware_host.serve.api import Api
from firmware_host.serve.app import STATIC, routes

from .conftest import JSON, PNG, STATE, png

DEVICE_NEEDED = {"/api/frame"}  # answered with 404 where the device has no camera


@pytest.fixture(scope="module")
def described():
    return json.loads(resources.files("firmware_host.serve").joinpath("openapi.json").read_bytes())


def check(described, answer, path, method):
    """Hold an answer against what the description says of it."""
    said = described["paths"][path][method]["responses"]
    assert str(answer.status) in said, (path, answer.status, answer.body)
    said = said[str(answer.status)]
    if "$ref" in said:
        said = described["components"]["responses"][said["$ref"].rpartition("/")[2]]
    media = answer.headers["content-type"].partition(";")[0]
    [content] = [value for key, value in said["content"].items() if key in (media, "*/*")]
    if media == "application/json":
        schema = {**content["schema"], "components": described["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json)


def test_the_description_names_every_route_and_no_other(described):
    served = {
        (route.path, method.lower())
        for route in routes(Api.__new__(Api))
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    }
    assert served == {(path, method) for path, methods in described["paths"].items() for method in methods}
    assert len(served) == 21
    operations = [one["operationId"] for methods in described["paths"].values() for one in methods.values()]
    assert len(set(operations)) == len(operations)


def test_every_answer_is_as_described(described, serve, picture):
    client, asked = serve().client, set()

    def ask(method, path, body=None, headers=None, template=None, status=200):
        answer = client(method, path, body, headers)
        assert answer.status == status, answer.body
        template = template or path.partition("?")[0]
        check(described, answer, template, method.lower())
        asked.add((template, method.lower()))
        return answer

    image = png(picture("red"))
    ask("POST", "/api/predict", image, PNG)
    number = ask("POST", "/api/teach?label=blue", image, PNG).json["image"]
    ask("POST", "/api/teach", json.dumps({"label": "blue", "image": number}), JSON)
    ask("GET", f"/api/pictures/{number}", template="/api/pictures/{number}")
    ask("POST", "/api/classes", '{"name": "pink"}', JSON)
    ask("POST", "/api/classes/rename", '{"old": "pink", "new": "rose"}', JSON)
    ask("POST", "/api/classes/forget", '{"name": "rose"}', JSON)
    ask("POST", "/api/undo", "{}", JSON)
    state = ask("GET", "/api/state").body
    ask("POST", "/api/state", state, STATE)
    for path in described["paths"]:
        if "get" in described["paths"][path] and "{" not in path and path != "/api/events":
            ask("GET", path, status=404 if path in DEVICE_NEEDED else 200)
    ask("GET", "/static/page.js", template="/static/{name}")
    asked.add(("/api/events", "get"))  # see test_events_are_told
    assert asked == {(path, method) for path, methods in described["paths"].items() for method in methods}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        ("/api/predict", b"", PNG, 400, "not an image"),
        ("/api/predict", b"hello", PNG, 400, "not an image"),
        ("/api/predict", b"{}", JSON, 415, "image/"),
        ("/api/teach", b"{", JSON, 400, "not JSON"),
        ("/api/teach", b"[1]", JSON, 400, "not a JSON object"),
        ("/api/teach", b"[" * 9000, JSON, 400, "not JSON"),
        ("/api/teach", b"{}", JSON, 400, "label is missing"),
        ("/api/teach", b'{"label": "red", "x": 1}', JSON, 400, "field 'x' is not known"),
        ("/api/teach", b'{"label": 7}', JSON, 400, "must be a text"),
        ("/api/teach", b'{"label": "red"}', JSON, 400, "no camera in use"),
        ("/api/teach", b'{"label": "red", "image": 99}', JSON, 404, "not held any more"),
        ("/api/teach", b'{"label": "red", "image": true}', JSON, 400, "image must be"),
        ("/api/teach", b'{"label": "red", "image": {}}', JSON, 400, "image must be"),
        ("/api/teach", b'{"label": "red", "hold": 1}', JSON, 400, "hold must be"),
        ("/api/teach", b'{"label": "red", "image": ' + b"9" * 5000 + b"}", JSON, 400, "not JSON"),
        ("/api/teach?label=red", b"hello", PNG, 400, "not an image"),
        ("/api/teach", b"hello", PNG, 400, "class name"),
        ("/api/classes", b'{"name": ""}', JSON, 400, "1 to 100"),
        ("/api/classes", json.dumps({"name": "x" * 101}).encode(), JSON, 400, "1 to 100"),
        ("/api/classes", b'{"name": "a\\nb"}', JSON, 400, "one line of text"),
        ("/api/classes", b'{"name": "\\ud800"}', JSON, 400, "one line of text"),
        ("/api/classes", b'{"name": "red"}', JSON, 400, "known already"),
        ("/api/classes/forget", b'{"name": "\\ud800x"}', JSON, 400, "one line of text"),
        ("/api/classes/rename", b'{"old": "red"}', JSON, 400, "new is missing"),
        ("/api/classes/rename", b'{"old": "x", "new": "y"}', JSON, 400, "not known"),
        ("/api/undo", b"{}", JSON, 400, "nothing to undo"),
        ("/api/state", b"", STATE, 400, "not a whole state"),
        ("/api/state", b"x" * 5000, STATE, 400, "not a whole state"),
        ("/api/nothing", b"{}", JSON, 404, "Not Found"),
        ("/api/units", b"{}", JSON, 405, "Method Not Allowed"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(shared_client, path, body, headers, status, words):
    before = shared_client.known()
    answer = shared_client("POST", path, body, headers)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert words in answer.json["error"]
    assert shared_client.known() == before


def test_a_method_that_is_not_taken_hears_which_are(shared_client):
    answer = shared_client("PUT", "/api/classes", "{}", JSON)
    assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "POST"})


@pytest.mark.parametrize("number", ["x", "-1", "9" * 5000, "%00", "1.0", "²"])
def test_a_picture_is_found_by_its_number_alone(shared_client, number):
    assert shared_client.get(f"/api/pictures/{urllib.parse.quote(number, safe='%')}").status == 404


def test_a_class_is_taught_renamed_forgotten_and_brought_back(client, picture):
    for seed in range(3):
        assert client.teach(picture("blue", seed), "blue").status == 200
    found = client.predict(picture("blue", 9)).json
    assert found["label"] == "blue"
    assert found["revision"] == 3
    assert sum(found["probabilities"].values()) == pytest.approx(1.0)
    assert client.post("/api/classes/rename", {"old": "blue", "new": "sky / sea"}).status == 200
    assert client.predict(picture("blue", 9)).json["label"] == "sky / sea"
    left = client.post("/api/classes/forget", {"name": "sky / sea"}).json["classes"]
    assert [each["name"] for each in left] == ["red", "green"]
    back = client.post("/api/undo").json["classes"]
    assert back[2] == {"name": "sky / sea", "images": 3, "own": True}


def test_lessons_of_one_hold_are_taken_back_together(client, picture):
    client.teach(picture("blue"), "blue", "first")
    for seed in range(3):
        client.teach(picture("white", seed), "white", "second")
    names = [each["name"] for each in client.post("/api/undo").json["classes"]]
    assert names == ["red", "green", "blue"]
    assert client.post("/api/undo").status == 400


def test_a_correction_is_a_lesson_and_leaves_the_list(client, picture):
    number = client.predict(picture("blue")).json["image"]
    assert [each["image"] for each in client.get("/api/recent").json["predictions"]] == [number]
    held = np.array(Image.open(io.BytesIO(client.get(f"/api/pictures/{number}").body)))
    assert np.array_equal(held, picture("blue"))
    assert client.post("/api/teach", {"label": "blue", "image": number}).json["label"] == "blue"
    assert client.get("/api/recent").json == {"predictions": []}
    assert client.predict(picture("blue", 3)).json["label"] == "blue"


def test_what_is_exported_can_be_imported_elsewhere_and_taken_back(serve, client, bundle, tmp_path, picture):
    client.teach(picture("blue"), "blue")
    state = client.get("/api/state").body
    other = serve(shutil.copytree(bundle, tmp_path / "other")).client
    assert other("POST", "/api/state", state, STATE).json["classes"][2]["name"] == "blue"
    assert (
        other.predict(picture("blue", 5)).json["probabilities"]
        == client.predict(picture("blue", 5)).json["probabilities"]
    )
    assert len(other.post("/api/undo").json["classes"]) == 2


def test_events_are_told(serve, picture):
    serving = serve()
    client = serving.client
    events = client.listen()
    client.predict(picture("red"))
    client.teach(picture("blue"), "blue")
    client.post("/api/classes/forget", {"name": "blue"})
    told = [next(events) for _ in range(5)]
    assert [kind for kind, _ in told] == ["prediction", "save", "lesson", "save", "change"]
    assert told[0][1]["label"] == "red"
    assert told[2][1]["label"] == "blue"
    serving.stop()
    assert list(events) == []  # the stream ends with the server


def test_a_reset_and_a_rollback_are_told(serve, bundle, make, picture, monkeypatch):
    make.rewrite_manifest(bundle, lambda m: m["head"].update(replacement_rate=0.2, maturity_threshold=2))
    serving = serve()
    events = serving.client.listen()
    lesson = serving.client.teach(picture("blue"), "blue").json
    assert lesson["replaced"] > 0
    told = dict(next(events) for _ in range(3))
    assert told["reset"]["units"]
    assert max(told["reset"]["units"]) < 5
    monkeypatch.setattr("firmware_host.learning.guard.MAX_LOGIT", -1.0)
    assert serving.client.teach(picture("blue"), "blue").json["rolled_back"] > 0
    assert next(events) == ("rollback", {"label": "blue", "steps": 16})
    metrics = serving.client.get("/metrics").body.decode()
    assert "cbpnet_rollbacks_total 1\n" in metrics
    assert f"cbpnet_resets_total {lesson['replaced']}\n" in metrics


def test_a_save_that_fails_is_said_and_made_up_for(serve, picture, monkeypatch):
    serving = serve()
    save = serving.service.device.save

    def full():
        from firmware_host import DeviceError

        raise DeviceError("state cannot be written (No space left on device): free space")

    serving.service.device.save = full
    answer = serving.client.teach(picture("blue"), "blue")
    assert (answer.status, "No space left" in answer.json["error"]) == (507, True)
    assert serving.client.get("/api/status").json["unsaved"] is True
    serving.service.device.save = save
    assert serving.client.teach(picture("blue", 1), "blue").status == 200
    assert serving.client.get("/api/status").json["unsaved"] is False
    assert serving.client.get("/api/classes").json["classes"][2]["images"] == 2


def test_metrics_are_in_the_format_of_prometheus(client, picture):
    client.teach(picture("blue"), "odd%20%22%5C%20name")
    client.predict(picture("red"))
    lines = client.get("/metrics").body.decode().splitlines()
    sample = re.compile(r'[a-z_]+(\{class="(\\.|[^"\\])*"\})? -?[0-9.e+-]+')
    assert all(line.startswith(("# HELP ", "# TYPE ")) or sample.fullmatch(line) for line in lines)
    assert "cbpnet_predictions_total 1" in lines
    assert "cbpnet_lessons_total 1" in lines
    assert "cbpnet_saves_total 1" in lines
    assert 'cbpnet_class_images{class="odd \\"\\\\ name"} 1' in lines


def test_another_process_cannot_teach_meanwhile_and_can_after(serve, bundle, picture):
    serving = serve()
    serving.client.teach(picture("blue"), "blue")
    serving.stop()
    with Device.open(bundle, runtime="numpy") as device:
        assert device.classes == ("red", "green", "blue")


def test_the_page_is_complete_small_and_needs_nothing_from_elsewhere(shared_client):
    bodies = {}
    for name, media in STATIC.items():
        answer = shared_client.get(f"/static/{name}")
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, media)
        bodies[name] = answer.body.decode()
    assert shared_client.get("/").body.decode() == bodies["index.html"]
    assert sum(map(len, bodies.values())) < 150_000
    for name, body in bodies.items():
        named = set(re.findall(r'(?:from|src=|href=|import)\s*\(?"(?:\./|/static/)([\w.]+)"', body))
        assert named <= set(STATIC), name
        links = [link for link in re.findall(r"https?://[^\s\"')]+", body) if "www.w3.org" not in link]
        assert links == [], name
        assert not re.search(r"""\sstyle=|\son\w+="|innerHTML|\beval\(""", body), name


def test_every_text_of_the_page_is_in_one_file(shared_client):
    strings = shared_client.get("/static/strings.js").body.decode()
    keys = set(re.findall(r"^  (\w+):", strings, re.MULTILINE))
    used = set(re.findall(r'data-(?:text|label|alt|placeholder)="(\w+)"', shared_client.get("/").body.decode()))
    for name in STATIC:
        if name.endswith(".js") and name != "strings.js":
            used |= set(re.findall(r"\btext\.(\w+)", shared_client.get(f"/static/{name}").body.decode()))
    assert used == keys
    assert re.findall(r">[^<>\s][^<>]*<", shared_client.get("/").body.decode().partition("</head>")[2]) == []
