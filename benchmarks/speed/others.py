"""Rows that a benchmark of its own measures: reading photos, the loop around the graph, the bank, the server."""

from __future__ import annotations

import importlib.util
from typing import Any

from benchmarks.common.turns import Spread, spread
from benchmarks.speed.bench import Area, Bench, MissingError
from benchmarks.speed.rows import Found, Row, single

__all__ = ["BANK", "LOOP", "PIXELS", "READING", "SERVE"]

PHOTOS = 200
JOBS = 2
SIZES, COMPARED = (32, 224), 20  # pixels, and photos of each size
LOOP_ROWS = {  # names of rows here, and of `benchmarks.loop`
    "loop": (
        "loop / graph",
        "a step of `learn` with all that goes on between steps, over the graph alone",
        1.6,
        "ratio",
    ),
    "lesson": ("a lesson, ms", "a lesson of one image, in ms", 5.0, "ratio"),
    "looks": ("looks / training, 1000 classes", "looks at the head over training, 1,000 classes", 0.05, "ratio"),
    "infer": (
        "infer / graph's, 1000 classes",
        "a look at one image over the graph's `infer`, 1,000 classes",
        0.1,
        "ratio",
    ),
    "state": ("state, exponent of d", "reading the state, exponent in features", 1.1, "exponent"),
}
READING_ROWS = {  # names of rows here, and of `benchmarks.reading`
    "predict_wall": ("predict, wall", "`predict FOLDER` over before, by the clock", 0.55),
    "evaluate_wall": ("evaluate, wall", "`evaluate` over before, by the clock", 0.55),
    "learn_wall": ("learn, wall", "`learn` over before, by the clock", 0.55),
    "large": ("load 12 MP, cpu", "12 megapixels to 224 pixels over before", 0.7),
    "predict_onnx": (
        "predict to Pillow and ONNX Runtime, cpu",
        "`predict FOLDER` over a loop of Pillow and ONNX Runtime",
        0.66,
    ),
}


def reading(bench: Bench) -> dict[str, Found]:
    """Read and classify photos, beside the commit before they were read ahead and beside ONNX Runtime."""
    from benchmarks.reading import ratios

    words: list[Any] = [bench.bundle, "--before", bench.earlier, "--images", str(PHOTOS), "--jobs", str(JOBS)]
    missing = ""
    try:
        words += ["--peer", bench.peer("onnxruntime", "PIL", "numpy"), "--onnx", bench.onnx("nano", "int8")]
    except MissingError as reason:
        missing = str(reason)
    record = bench.benchmark("reading", *words, "--rounds", str(max(3, bench.rounds // 2)))
    measured = ratios(record)
    found = {}
    for name, (key, *_) in READING_ROWS.items():
        if key in measured:
            found[name] = Found(spread(measured[key]))
        elif key.endswith("wall"):
            found[name] = Found(None, f"others used {record['busy_cores']} cores")
        else:
            found[name] = Found(None, missing)
    return found


def pixels(bench: Bench) -> dict[str, Found]:
    """Compare photos as the device reads them with what the host trains on, in grey levels."""
    if bench.photos is None:
        raise MissingError("no photos were given with --photos")
    import numpy as np

    from firmware_host.images import load_image
    from keras_cbpnet.data import open_dataset

    worst = 0
    for size in SIZES:
        data = open_dataset(f"folder:{bench.photos}", size)
        rows = np.arange(0, len(data.y_test), max(1, len(data.y_test) // COMPARED))
        files = [data.x_test.files[row] for row in rows]  # type: ignore[union-attr]
        for file, host in zip(files, data.images("test", rows)):
            worst = max(worst, int(np.abs(load_image(file, (size, size)).astype(int) - host).max()))
    return {"pixels": single(worst)}


def loop(bench: Bench) -> dict[str, Found]:
    """Measure the loop around the training graph."""
    if importlib.util.find_spec("benchmarks.loop") is None:
        raise MissingError("there is no benchmarks.loop")
    record = bench.benchmark("loop", "--bundle", bench.bundle, "--rounds", str(bench.rounds))
    now = record["found"]["now"]
    return {
        name: Found(Spread(now[key]["median"], now[key]["low"], now[key]["high"]))
        for name, (key, *_) in LOOP_ROWS.items()
        if key in now
    }


def bank(bench: Bench) -> dict[str, Found]:
    """Time a prediction of the bank by a file over NumPy's."""
    found = {}
    for runtime, parts in bench.benchmark("bank_runtime")["microseconds"].items():
        names = list(parts)  # first look, and both, each in NumPy and by a file
        found[f"bank_{runtime}"] = single(parts[names[3]] / parts[names[2]])
    return found


def serve(bench: Bench) -> dict[str, Found]:
    """Time the server's first prediction."""
    record = bench.benchmark("serve", bench.bundle, "--minutes", "1")
    per_second = record["per_second"]["predictions"]
    bench.say(f"serve: {per_second:.0f} predictions a second while one client teaches")
    first = record["first_prediction_s"]
    return {
        "serve_first": Found(spread(first)),
        "serve_each": single(1 / per_second),
    }


READING = Area(tuple(Row(name, "reading", text, asked) for name, (_, text, asked) in READING_ROWS.items()), reading)
PIXELS = Area(
    (Row("pixels", "reading", "device's pixels from the host's, largest difference, photos", 2, "levels"),), pixels
)
LOOP = Area(tuple(Row(name, "loop", text, asked, unit) for name, (_, text, asked, unit) in LOOP_ROWS.items()), loop)
BANK = Area(
    (
        Row("bank_ai_edge_litert", "bank", "a prediction by a file under LiteRT, over NumPy's", None),
        Row("bank_tflite_runtime", "bank", "a prediction by a file under tflite-runtime, over NumPy's", None),
    ),
    bank,
)
SERVE = Area(
    (
        Row("serve_first", "server", "first prediction after the start, by the clock", 1.0, "seconds"),
        Row("serve_each", "server", "a prediction while one client teaches, by the clock", 0.05, "seconds"),
    ),
    serve,
)
