"""A server on the loopback with the Hugging Face hub's layout: resolve, redirect to a store, hashes, ranges, errors."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000  # bytes from which a file is kept in the store, under its SHA-256
FILE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")


@dataclass
class Hub:
    """What is served, and what was asked for."""

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by repository and name
    states: dict[str, str] = field(default_factory=dict)  # by name, another hash than the file's
    breaks: list[int] = field(default_factory=list)  # bytes after which the next transfers end
    gated: set[str] = field(default_factory=set)
    down: int = 0  # status of every answer, of a server that is out of order
    ranges: bool = True  # whether a transfer may begin in the middle
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    url: str = ""

    def of(self, method: str) -> list[tuple[str, str]]:
        """Path and range of the requests with `method`."""
        return [(path, part) for kind, path, part in self.requests if kind == method]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            """Say nothing."""

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            if self.path.startswith("/api/"):  # what the client asks for itself
                return self.refuse(404, "NotFound")
            if hub.down:
                return self.refuse(hub.down, "OutOfOrder")
            hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
            if self.path.startswith("/store/"):
                content = next(data for data in hub.files.values() if self.path.endswith(sha256(data)))
                return self.content(content, {"ETag": '"of-the-store"'}, body)
            found = FILE.fullmatch(self.path)
            repository, revision, name = found.groups() if found else ("", "", "")
            if repository not in {each for each, _ in hub.files}:
                return self.refuse(401, "RepoNotFound")
            if repository in hub.gated:
                return self.refuse(403, "GatedRepo")
            if revision not in ("main", COMMIT):
                return self.refuse(404, "RevisionNotFound")
            content = hub.files.get((repository, name))
            if content is None:
                return self.refuse(404, "EntryNotFound")
            if len(content) < LARGE:
                blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                return self.content(content, {"ETag": f'"{hub.states.get(name, blob)}"'}, body)
            return self.redirect(content, hub.states.get(name, sha256(content)))

        def redirect(self, content, stated):
            self.send_response(302)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{stated}"')
            self.send_header("X-Linked-Size", str(len(content)))
            store = hub.url.replace("127.0.0.1", "localhost")  # another host, as the hub's store is
            self.send_header("Location", f"{store}/store/{sha256(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def refuse(self, status, code):
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def content(self, content, headers, body):
            start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0]) if hub.ranges else 0
            if start >= len(content):
                self.refuse(416, "RangeNotSatisfiable")
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            for name, value in {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if body:
                end = start + hub.breaks.pop(0) if hub.breaks else len(content)
                self.wfile.write(content[start:end])
                self.close_connection = end < len(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
