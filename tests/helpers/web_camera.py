"""A camera that answers by HTTP on the loopback, as a test tells it to."""

import base64
import io
import re
import threading
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

REALM, NONCE = "camera", "0123456789abcdef"


class WebCamera:
    """`routes` by path: each takes the request's handler and writes the answer. `asked`: the paths and headers of all.

    `ended` is set when the test is over: what an answer may wait for.
    """

    def __init__(self, port=0):
        self.routes, self.asked, self.ended = {}, [], threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                camera.asked.append((self.path, dict(self.headers)))
                camera.routes[self.path.partition("?")[0]](self)

            def log_message(self, *_):
                """Nothing on stderr."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_):
                """A client that hangs up."""

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def address(self, path, user="", host="127.0.0.1"):
        return f"http://{user + '@' if user else ''}{host}:{self.port}{path}"

    def stop(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextmanager
def web_camera(port=0):
    camera = WebCamera(port)
    try:
        yield camera
    finally:
        camera.stop()


def picture(rgb, size=(64, 48), form="JPEG", **options):
    file = io.BytesIO()
    Image.new("RGB", size, rgb).save(file, form, **options)
    return file.getvalue()


def head(request, status=200, **headers):
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()


def snapshots(*contents, kind="image/jpeg"):
    """A route that sends one picture after the other, and the last for ever."""
    left = list(contents)

    def route(request):
        content = left.pop(0) if len(left) > 1 else left[0]
        head(request, Content_Type=kind, Content_Length=len(content))
        request.wfile.write(content)

    return route


def stream(*parts, boundary="frame", declared=None, length=True):
    """A route that sends an MJPEG stream and ends it."""

    def route(request):
        head(request, Content_Type=f"multipart/x-mixed-replace; boundary={declared or boundary}")
        for part in parts:
            said = f"Content-Length: {len(part)}\r\n" if length else ""
            request.wfile.write(f"--{boundary}\r\nContent-Type: image/jpeg\r\n{said}\r\n".encode() + part + b"\r\n")
            request.wfile.flush()

    return route


def for_user(name, password, route, scheme="Basic"):
    """A route for one user only."""

    def digest(request):
        said = dict(re.findall(r'(\w+)="?([^",]+)', request.headers.get("Authorization", "")))
        first = md5(f"{name}:{REALM}:{password}".encode()).hexdigest()
        second = md5(f"GET:{said.get('uri')}".encode()).hexdigest()
        whole = f"{first}:{NONCE}:{said.get('nc')}:{said.get('cnonce')}:auth:{second}"
        return said.get("response") == md5(whole.encode()).hexdigest()

    def basic(request):
        return (
            request.headers.get("Authorization") == f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"
        )

    def checked(request):
        if (basic if scheme == "Basic" else digest)(request):
            route(request)
        else:
            more = "" if scheme == "Basic" else f', nonce="{NONCE}", qop="auth", algorithm=MD5'
            head(request, 401, WWW_Authenticate=f'{scheme} realm="{REALM}"{more}')

    return checked
