"""A stand-in for Frigate: it answers as its interface for programs does, and says what its topic `events` does."""

import http.server
import io
import json
import re
import threading
import urllib.parse

from PIL import Image


class FakeFrigate(http.server.ThreadingHTTPServer):
    """Answers as Frigate does, and holds clients to what it demands of them.

    `events`: what is in its data base, by id; `crops`: pixels of snapshots by id; `thumbnails`; `sub_labels`: what was
    set; `asked`: the requests; `down`: how many requests are to fail before the next one is answered.
    """

    def __init__(self, version="0.18.0-e3fa701"):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.version, self.events, self.crops, self.thumbnails = version, {}, {}, {}
        self.sub_labels, self.asked, self.down = {}, [], 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        fake, parts = self.server, urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        fake.asked.append(("GET", self.path))
        if self._fails():
            return None
        if parts.path == "/api/version":
            return self._answer(200, fake.version.encode(), "text/plain")
        if parts.path == "/api/events":
            found = [event for event in fake.events.values() if event["start_time"] > float(query["after"])]
            if query.get("in_progress") == "0":
                found = [event for event in found if event["end_time"] is not None]
            for name, key in (("cameras", "camera"), ("labels", "label")):
                if name in query:
                    found = [event for event in found if event[key] in query[name].split(",")]
            found.sort(key=lambda event: -event["start_time"])
            return self._answer(200, json.dumps(found[: int(query["limit"])]).encode())
        found = re.fullmatch(r"/api/events/([^/]+)/(snapshot|thumbnail)\.jpg", parts.path)
        if found is None:
            return self._answer(404, b'{"detail":"Not Found"}')
        store = fake.crops if found[2] == "snapshot" else fake.thumbnails
        if found[2] == "snapshot" and (query.get("crop"), query.get("bbox"), query.get("timestamp")) != ("1", "0", "0"):
            return self._answer(500, b"a whole picture with a box drawn into it")
        content = store.get(found[1])
        if content is None:
            return self._answer(404, b'{"success":false,"message":"Snapshot not available"}')
        return self._answer(200, content, "image/jpeg")

    def do_POST(self):
        fake = self.server
        fake.asked.append(("POST", self.path))
        content = self.rfile.read(int(self.headers["content-length"]))
        if self._fails():
            return None
        found = re.fullmatch(r"/api/events/([^/]+)/sub_label", self.path)
        body = json.loads(content)
        label, score = body.get("subLabel"), body.get("subLabelScore")
        if found is None or found[1] not in fake.events:
            return self._answer(404, b'{"success":false,"message":"Event not found."}')
        good = isinstance(label, str) and len(label) <= 100 and (score is None or 0.0 < score <= 1.0)
        if self.headers["content-type"] != "application/json" or not good:
            return self._answer(422, b'{"detail":[]}')
        fake.sub_labels[found[1]] = (label, score)
        return self._answer(200, b'{"success":true,"message":"sub label set"}')

    def _fails(self):
        if not self.server.down:
            return False
        self.server.down -= 1
        self._answer(502, b"Bad Gateway")
        return True

    def _answer(self, status, content, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).resize((160, 120)).save(file, "JPEG")
    return file.getvalue()


def message(name, kind="end", frame=1.0, **changes):
    """A message of frigate/events, with the fields of its documentation that matter here."""
    after = {
        "id": name,
        "camera": "front_door",
        "label": "person",
        "sub_label": None,
        "false_positive": False,
        "start_time": 1607123955.475377,
        "end_time": 1607123965.0 if kind == "end" else None,
        "snapshot": {"frame_time": frame, "box": [415, 489, 528, 700], "score": 0.77},
        "has_snapshot": True,
        "has_clip": True,
        **changes,
    }
    return json.dumps({"type": kind, "before": after, "after": after}).encode()
