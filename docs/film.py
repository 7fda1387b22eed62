"""Makes docs/teach.gif, the animated picture at the top of the README: a device that is taught in a browser and killed.

    python docs/film.py

Nothing in it is staged: it trains a bundle on shapes that it draws, serves it with a camera that shows such shapes,
teaches two new classes in Debian's Chromium, kills the server with signal 9, starts it again and sees what it knows.
"""

from __future__ import annotations

import http.server
import io
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from math import cos, pi, sin
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.browser import Browser  # noqa: E402

SIDE, SIZE, SCALE = 240, (900, 860), 0.7
KNOWN, NEW = ("house", "tree", "fish", "cup"), ("star", "heart")
BARS = "[...document.querySelectorAll('#bars > *')].map((each) => each.textContent)"


def outline(name: str) -> list[list[tuple[float, float]]]:
    """Return the polygons of a shape, corners from -1 to 1."""
    if name == "star":
        radii = [1.0, 0.42] * 5
        return [[(r * sin(i * pi / 5), -r * cos(i * pi / 5)) for i, r in enumerate(radii)]]
    if name == "heart":
        turns = [i * 2 * pi / 60 for i in range(60)]
        rise = [13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t) for t in turns]
        return [[(sin(t) ** 3, -y / 17) for t, y in zip(turns, rise)]]
    shapes = {
        "house": [[(-0.7, 0.9), (-0.7, -0.1), (0.7, -0.1), (0.7, 0.9)], [(-0.95, -0.1), (0, -0.95), (0.95, -0.1)]],
        "tree": [[(-0.15, 1), (-0.15, 0.4), (0.15, 0.4), (0.15, 1)], [(-0.8, 0.45), (0, -1), (0.8, 0.45)]],
        "fish": [
            [(-0.9, 0), (-0.4, -0.45), (0.2, -0.4), (0.55, 0), (0.2, 0.4), (-0.4, 0.45)],
            [(0.45, 0), (0.98, -0.45), (0.98, 0.45)],
        ],
        "cup": [
            [(-0.7, -0.7), (0.5, -0.7), (0.38, 0.8), (-0.58, 0.8)],
            [
                (0.5, -0.45),
                (0.95, -0.4),
                (0.85, 0.3),
                (0.42, 0.35),
                (0.42, 0.15),
                (0.65, 0.1),
                (0.7, -0.2),
                (0.48, -0.2),
            ],
        ],
    }
    return shapes[name]


def scene(name: str, rng: random.Random) -> Image.Image:
    """Return a shape of some colour, place and turn, SIDE x SIDE pixels."""
    ground = tuple(rng.randint(190, 250) for _ in range(3))
    paint = tuple(rng.randint(10, 140) for _ in range(3))
    large = Image.new("RGB", (2 * SIDE, 2 * SIDE), ground)
    draw, size, turn = ImageDraw.Draw(large), SIDE * rng.uniform(0.5, 0.75), rng.uniform(-0.3, 0.3)
    x0, y0 = SIDE + rng.uniform(-50, 50), SIDE + rng.uniform(-50, 50)
    for corners in outline(name):
        turned = [(x * cos(turn) - y * sin(turn), x * sin(turn) + y * cos(turn)) for x, y in corners]
        draw.polygon([(x0 + size * x, y0 + size * y) for x, y in turned], fill=paint)
    return large.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


class Camera(http.server.ThreadingHTTPServer):
    """A camera over HTTP, which shows a new picture of `shown` each time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Shutter)
        self.shown, self.rng = KNOWN[0], random.Random(5)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Shutter(http.server.BaseHTTPRequestHandler):
    """Answers with one picture."""

    def do_GET(self) -> None:
        camera, content = self.server, io.BytesIO()
        scene(camera.shown, camera.rng).save(content, "JPEG", quality=92)
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(content.tell()))
        self.end_headers()
        self.wfile.write(content.getvalue())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Film:
    """Frames of the page with a line of text under each."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser, self.path = browser, folder / "frame.png"
        self.frames: list[Image.Image] = []
        self.times: list[int] = []
        self.font = ImageFont.load_default(size=20)

    def take(self, words: str, count: int = 1, milliseconds: int = 180, apart: float = 0.15) -> None:
        """Take `count` frames."""
        for _ in range(count):
            self.browser.script("scrollTo(0, 0)")
            self.browser.picture(self.path)
            page = Image.open(self.path).convert("RGB").crop((0, 0, *SIZE))
            page = page.resize((round(SIZE[0] * SCALE), round(SIZE[1] * SCALE)), Image.Resampling.LANCZOS)
            frame = Image.new("RGB", (page.width, page.height + 40), (24, 28, 34))
            frame.paste(page)
            ImageDraw.Draw(frame).text((14, page.height + 8), words, (255, 255, 255), self.font)
            self.frames.append(frame)
            self.times.append(milliseconds)
            time.sleep(apart)

    def save(self, path: Path) -> None:
        """Write the animation with one palette, so that what stands still costs nothing."""
        sample = Image.new("RGB", (self.frames[0].width, self.frames[0].height * 3))
        for i, frame in enumerate((self.frames[0], self.frames[len(self.frames) // 2], self.frames[-1])):
            sample.paste(frame, (0, i * frame.height))
        palette = sample.quantize(96, dither=Image.Dither.NONE)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=self.times, loop=0, optimize=True)


def trained(folder: Path) -> Path:
    """Return a bundle of the shapes in KNOWN."""
    rng = random.Random(1)
    for name in KNOWN:
        (folder / "shapes" / name).mkdir(parents=True)
        for i in range(40):
            scene(name, rng).save(folder / "shapes" / name / f"{i}.png")
    run = [sys.executable, "-m", "keras_cbpnet"]
    data = ["--dataset", f"folder:{folder / 'shapes'}", "--output", str(folder / "run"), "--tasks", "2"]
    subprocess.run([*run, "train", *data], check=True)
    subprocess.run([*run, "convert", str(folder / "run"), "--output", str(folder / "bundle")], check=True)
    return folder / "bundle"


def served(bundle: Path, camera: Camera, port: int) -> tuple[subprocess.Popen[str], int]:
    """Start a server; return it and its port."""
    command = [sys.executable, "-m", "firmware_host", "serve", str(bundle), "--port", str(port), "--rate", "6"]
    source = f"http://127.0.0.1:{camera.server_address[1]}/snapshot.jpg"
    server = subprocess.Popen([*command, "--source", source], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    line = server.stdout.readline() if server.stdout else ""
    return server, int(line.rstrip("/\n").rpartition(":")[2])


def main() -> None:
    """Make the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, camera = trained(folder), Camera()
        server, port = served(bundle, camera, 0)
        browser = Browser(folder / "profile", SIZE)
        try:
            film = Film(browser, folder)
            browser.open(f"http://127.0.0.1:{port}/")
            play(film, browser, camera)
            server.send_signal(signal.SIGKILL)
            server.wait()
            browser.until("!document.getElementById('message').hidden")
            film.take("kill -9 of the server", 1, 2200)
            server, _ = served(bundle, camera, port)
            browser.until("document.getElementById('message').hidden")
            for shape in (NEW[0], KNOWN[0], NEW[1], KNOWN[2]):
                show(browser, camera, shape)
                film.take("Started again: it knows the new and the old", 3, 450)
            film.times[-1] = 2500
        finally:
            browser.close()
            server.kill()
            server.wait()
        film.save(ROOT / "docs" / "teach.gif")


def play(film: Film, browser: Browser, camera: Camera) -> None:
    """Show what it knows, teach it two classes, show both again."""
    for shape in KNOWN[:2]:
        show(browser, camera, shape)
        film.take("It knows four classes", 3, 450)
    for place, shape in enumerate(NEW, len(KNOWN) + 1):
        camera.shown = shape
        time.sleep(0.8)
        film.take(f"A {shape} is new to it", 2, 700)
        browser.script(f"document.getElementById('new-name').value = {shape!r}")
        release = browser.press("#new-hold")
        for _ in range(6):
            film.take(f"Held down: these pictures are a {shape}", 1, 300, 0.4)
        release()
        browser.until(f"document.querySelectorAll('#classes li').length === {place}")
        browser.until("!document.querySelector('.hold.active')")
    for shape in (NEW[0], KNOWN[0], KNOWN[2], NEW[1]):
        show(browser, camera, shape)
        film.take("Taught on the device; what it knew before stays", 3, 450)


def show(browser: Browser, camera: Camera, shape: str) -> None:
    """Put a shape before the camera and wait until the page shows the answer to it."""
    camera.shown = shape
    browser.until(f"{BARS}.some((each) => each.includes({shape!r}) && parseInt(each.match(/\\d+ %/)) >= 50)")
    time.sleep(0.4)  # bars move to where they belong


if __name__ == "__main__":
    main()
