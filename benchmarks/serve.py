"""The server under use: its first prediction, predictions a second while one client teaches, memory over an hour.

    python -m benchmarks.serve BUNDLE --data npz:FILE --json benchmarks/results/serve.json

The server is a process of its own, as `cbpnet serve` starts it, with a camera over HTTP that shows the test images. Its
first prediction is timed from the start of the process to the event that a page would show. Then one client asks for
predictions as fast as they are answered while another teaches, at the rate that the server allows, for as long as
--minutes says; memory is the resident size that the server tells of itself, minute by minute. Linux only.
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import io
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import results
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from keras_cbpnet import cli
from keras_cbpnet.data import load_dataset

SIDE = 32  # pixels, of data sets that come in no size of their own
STARTS = 5
EACH_S = 60.0  # between two looks at the memory
FIRST_S, PER_SECOND, MEMORY_MIB, GROWTH_MIB = 1.0, 20.0, 110.0, 2.0  # what is asked


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.serve", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="bundle to serve")
    add("--data", default="digits", help="data set whose test images are shown and taught")
    add("--minutes", type=int, default=60, metavar="M", help="how long it is used")
    add("--runtime", default="auto", help="runtime of the device")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


class Camera(http.server.ThreadingHTTPServer):
    """A camera over HTTP that gives one JPEG file after the other."""

    def __init__(self, pictures: Sequence[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Shutter)
        self.pictures = itertools.cycle(pictures)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}/snapshot.jpg"


class Shutter(http.server.BaseHTTPRequestHandler):
    """Answers with one picture."""

    def do_GET(self) -> None:
        picture = next(self.server.pictures)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(picture)))
        self.end_headers()
        self.wfile.write(picture)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server:
    """A served bundle, as a process; `began`: when it was started, in seconds of `time.perf_counter`."""

    def __init__(self, bundle: Path, state: Path, source: str, runtime: str) -> None:
        command = [sys.executable, "-m", "firmware_host", "serve", str(bundle), "--state", str(state), "--json"]
        command += ["--port", "0", "--source", source, "--runtime", runtime]
        self.began = time.perf_counter()
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline() if self._process.stdout else ""
        self._port = int(urllib.parse.urlsplit(json.loads(line)["url"]).port or 0)

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to it."""
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)

    def status(self) -> dict[str, Any]:
        """Return what it tells of itself."""
        connection = self.connect()
        connection.request("GET", "/api/status")
        found: dict[str, Any] = json.load(connection.getresponse())
        connection.close()
        return found

    def events(self) -> Iterator[str]:
        """Yield the names of its events, as a page hears them."""
        connection = self.connect()
        connection.request("GET", "/api/events")
        for line in connection.getresponse():
            if line.startswith(b"event: "):
                yield line[7:].decode().strip()

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    data = load_dataset(args.data, SIDE)
    pictures = [jpeg(image) for image in data.x_test[:200]]
    names = [data.class_names[int(label)] for label in data.y_test[:200]]
    camera = Camera(pictures)
    with tempfile.TemporaryDirectory() as folder:
        first = [first_prediction(args, camera, Path(folder)) for _ in range(STARTS)]
        print(f"first prediction after {statistics.median(first):.2f} s (median of {STARTS} starts)", flush=True)
        used = use(args, camera, Path(folder), pictures, names)
    record = {
        **results.provenance("benchmarks.serve", given, results.commit(ROOT)),
        "first_prediction_s": first,
        **used,
        "reached": reached(statistics.median(first), used),
    }
    print(render(record), json.dumps(record["reached"], indent=1), sep="\n\n")
    if args.json:
        results.write(args.json, record)
    return 0


def first_prediction(args: argparse.Namespace, camera: Camera, folder: Path) -> float:
    """Return the seconds from the start of a server to the first prediction on its page."""
    state = folder / "first"
    server = Server(args.bundle, state, camera.url, args.runtime)
    try:
        next(event for event in server.events() if event == "prediction")
        return time.perf_counter() - server.began
    finally:
        server.end()
        shutil.rmtree(state, ignore_errors=True)


def use(
    args: argparse.Namespace, camera: Camera, folder: Path, pictures: Sequence[bytes], names: Sequence[str]
) -> dict[str, Any]:
    """Predict and teach for as long as was asked; return the rates, and the memory of every minute in MiB."""
    server = Server(args.bundle, folder / "state", camera.url, args.runtime)
    done, counts, stop = {"predictions": 0, "lessons": 0}, [], threading.Event()

    def ask(kind: str, path: str, turns: Iterator[int]) -> None:
        connection = server.connect()
        for turn in turns:
            if stop.is_set():
                break
            target = path.format(label=urllib.parse.quote(names[turn % len(names)]))
            connection.request("POST", target, pictures[turn % len(pictures)], {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                done[kind] += 1
            elif answer.status == 429:  # as many lessons as the server takes
                stop.wait(0.1)
            else:
                raise RuntimeError(f"{target}: status {answer.status}")

    threads = [
        threading.Thread(target=ask, args=("predictions", "/api/predict", itertools.count())),
        threading.Thread(target=ask, args=("lessons", "/api/teach?label={label}", itertools.count(7))),
    ]
    try:
        memory = []
        for thread in threads:
            thread.start()
        for _ in range(args.minutes):
            before = dict(done)
            stop.wait(EACH_S)
            counts.append({kind: done[kind] - before[kind] for kind in done})
            memory.append(server.status()["memory_mb"])
            print(f"minute {len(memory)}: {counts[-1]}, {memory[-1]:.1f} MiB", flush=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        server.end()
    per_second = {kind: statistics.median(each[kind] for each in counts) / EACH_S for kind in done}
    return {"minutes": args.minutes, "per_second": per_second, "memory_mb": memory}


def reached(first: float, used: dict[str, Any]) -> dict[str, bool]:
    """Return which of the numbers asked for were reached."""
    memory = used["memory_mb"]
    settled = statistics.median(memory[1:6] or memory)
    return {
        f"first prediction within {FIRST_S:g} s": first <= FIRST_S,
        f"{PER_SECOND:g} predictions a second while one client teaches": used["per_second"]["predictions"]
        >= PER_SECOND,
        f"at most {MEMORY_MIB:g} MiB": max(memory) <= MEMORY_MIB,
        f"grows by at most {GROWTH_MIB:g} MiB": statistics.median(memory[-5:]) - settled <= GROWTH_MIB,
    }


def render(record: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    first, memory, rates = record["first_prediction_s"], record["memory_mb"], record["per_second"]
    rows = [
        ["", "measured", "asked"],
        ["first prediction on the page, s", f"{statistics.median(first):.2f}", f"{FIRST_S:g}"],
        ["predictions a second while one client teaches", f"{rates['predictions']:.1f}", f"{PER_SECOND:g}"],
        ["lessons a second beside them", f"{rates['lessons']:.1f}", "-"],
        ["memory, MiB, at most", f"{max(memory):.1f}", f"{MEMORY_MIB:g}"],
        [
            f"memory, MiB, minute {min(6, len(memory))}; {len(memory)}",
            f"{memory[:6][-1]:.1f}; {memory[-1]:.1f}",
            "flat",
        ],
    ]
    return markdown(rows)


def jpeg(image: np.ndarray) -> bytes:
    """Return uint8 RGB [h, w, 3] as a JPEG file of 320 x 320 pixels, as a small camera's."""
    content = io.BytesIO()
    Image.fromarray(image).resize((320, 320), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
    return content.getvalue()


if __name__ == "__main__":
    sys.exit(cli.run(main))
