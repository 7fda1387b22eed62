"""How the time of a step, a prediction and a copy of the state grows with the sizes of a head, and with images seen."""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.heads import write_head
from benchmarks.common.turns import spread
from benchmarks.speed.bench import Area, Bench
from benchmarks.speed.rows import Found, Row
from firmware_host.shared.runtimes import installed_interpreters
from keras_cbpnet.config import HeadConfig

__all__ = ["AREA", "AXES", "curves", "exponent"]

D = 192  # features of the head that the curves go through
BASE = HeadConfig(slots=100)
AXES: Mapping[str, tuple[str, Sequence[int]]] = {  # what grows: the field of `HeadConfig`, and its sizes
    "classes": ("slots", (10, 100, 1000)),
    "features": ("", (64, 192, 768)),
    "units": ("units", (16, 64, 256, 512)),
    "rows": ("batch", (1, 16, 64)),
}
SEEN = (64, 512, 4096)  # images that devices have learned
CALLS = 20  # of a turn
OPERATIONS = ("train", "infer", "get_state")
GROWS = {"train": tuple(AXES), "infer": ("classes", "features", "units"), "get_state": ("classes", "features", "units")}
OF_IMAGES = ("lesson", "prediction")
MOST = 1.1  # no faster than its factor, and what a measurement parts from it
FLAT = 0.1


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Return p of the power law c * size^p through the two largest sizes, in logarithms: small ones are overhead."""
    (a, b), (s, t) = sizes[-2:], times[-2:]
    return math.log(t / s) / math.log(b / a)


def runtimes() -> tuple[str, ...]:
    """Return what computes the heads here."""
    return (*installed_interpreters(), "numpy")


def _rows() -> list[Row]:
    found = [
        Row(
            f"growth_{operation}_{axis}",
            "growth",
            f"`{operation}`, exponent in {axis}, the largest of all runtimes",
            MOST,
            "exponent",
        )
        for operation, axes in GROWS.items()
        for axis in axes
    ]
    for what in OF_IMAGES:
        found.append(Row(f"growth_{what}_seen", "growth", f"a {what}, exponent in images seen", FLAT, "exponent"))
    return found


def measure(bench: Bench) -> dict[str, Found]:
    """Measure all curves; they stay in `bench.growth`."""
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        names = write_cases(Path(folder))
        for runtime in runtimes():
            with bench.workers({runtime: (sys.executable, "heads_worker.py", runtime, folder)}) as workers:
                turns = [workers[runtime].ask(CALLS) for _ in range(bench.rounds)]
            bench.say(f"growth under {runtime} measured")
            for operation, of_axis in curves(names, turns).items():
                bench.growth[f"{operation}, {runtime}"] = of_axis
    for operation, axes in GROWS.items():
        for axis in axes:
            of_runtimes = [bench.growth[f"{operation}, {runtime}"][axis]["spread"] for runtime in runtimes()]
            found[f"growth_{operation}_{axis}"] = Found(max(of_runtimes))
    return {**found, **images_seen(bench)}


def images_seen(bench: Bench) -> dict[str, Found]:
    """Measure lessons and predictions of devices that have seen few images and many."""
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        command = (sys.executable, "images_worker.py", bench.bundle, folder, ",".join(map(str, SEEN)))
        with bench.workers({"images": command}) as workers:
            turns = [workers["images"].ask(CALLS) for _ in range(bench.rounds)]
    found = {}
    for place, what in enumerate(OF_IMAGES):
        times = [[turn[len(OF_IMAGES) * i + place] for i in range(len(SEEN))] for turn in turns]
        bench.growth[f"a {what}"] = {"images seen": _curve(SEEN, times)}
        found[f"growth_{what}_seen"] = Found(bench.growth[f"a {what}"]["images seen"]["spread"])
    return found


def write_cases(folder: Path) -> dict[tuple[str, int], int]:
    """Write a head of every size; return the place of each in the order of their names, by axis and size."""
    made: dict[str, list[tuple[str, int]]] = {}
    for axis, (field, sizes) in AXES.items():
        for size in sizes:
            config = dataclasses.replace(BASE, **{field: size}) if field else BASE
            d = D if field else size
            name = f"{config.slots:05}-{d:05}-{config.units:05}-{config.batch:05}"
            if name not in made:
                write_head(config, d, folder / name)
            made.setdefault(name, []).append((axis, size))
    return {pair: place for place, name in enumerate(sorted(made)) for pair in made[name]}


def curves(
    places: Mapping[tuple[str, int], int], turns: Sequence[Sequence[float]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what a worker's turns say of each operation, by axis: see `_curve`."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for number, operation in enumerate(OPERATIONS):
        for axis in GROWS[operation]:
            sizes = AXES[axis][1]
            columns = [len(OPERATIONS) * places[axis, size] + number for size in sizes]
            times = [[turn[column] for column in columns] for turn in turns]
            found.setdefault(operation, {})[axis] = _curve(sizes, times)
    return found


def _curve(sizes: Sequence[int], times: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return sizes, the median time of each in microseconds, and the exponent with the quartiles of its turns."""
    found = spread([exponent(sizes, turn) for turn in times])
    us = [round(statistics.median(column), 2) for column in zip(*times)]
    return {"sizes": list(sizes), "us": us, "exponent": found.value, "spread": found}


AREA = Area(_rows(), measure)
