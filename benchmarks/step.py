"""One training step of the head, in processor time: head.tflite under each runtime, NumPy, PyTorch.

    python -m benchmarks.step --torch ENV/bin/python --against EARLIER --json benchmarks/results/step.json

Every engine is a process of its own with one thread; they take turns, so that other load on the machine meets all
alike, and what counts is each turn's time over that of the first engine. All train on the same batches, and their
losses must agree before anything is timed. PyTorch steps eagerly, gradients by autograd; `products` are its matrix
products alone. EARLIER holds the heads that another checkout wrote with --write.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from firmware_host.shared.runtimes import RUNTIMES
from keras_cbpnet import cli
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.errors import UserError

D = 192  # features
BATCHES = 64
WARM_UP = 60  # steps before the first turn
AGREE = 1e-3  # of the losses after it, relative
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
WORKER = Path(__file__).parent / "common" / "step_worker.py"
CASES = {  # what a bundle has by default, many classes, a wide block
    "prototype_16": HeadConfig(batch=32),
    "prototype_100": HeadConfig(slots=100),
    "mlp_100": HeadConfig(block="mlp", units=256, slots=100),
}
RAN = ("ai_edge_litert", "litert_compiled", "tflite_runtime")
TARGETS = {  # at most, of PyTorch's eager step
    "ai_edge_litert": {"prototype_16": 0.25, "prototype_100": 0.25},
    "tflite_runtime": {"prototype_16": 0.75, "prototype_100": 0.95, "mlp_100": 1.8},
}


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.step", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--write", type=Path, metavar="OUT", help="folder for the heads of this checkout; nothing is timed")
    add("--against", type=Path, metavar="DIR", help="heads that another checkout wrote")
    add("--torch", metavar="PYTHON", help="Python of an environment with PyTorch")
    add("--rounds", type=int, default=15, metavar="N", help="turns of every engine")
    add("--steps", type=int, default=60, metavar="N", help="steps of a turn")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    if args.rounds < 2 or args.steps < 1:
        raise UserError(f"--rounds {args.rounds} --steps {args.steps}: use at least 2 rounds of 1 step")
    if args.write:
        for name in CASES:
            write_case(name, args.write / name)
        return 0
    commit = results.commit(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        cases = {}
        for name in CASES:
            write_case(name, Path(folder) / name)
            cases[name] = measure(Path(folder) / name, args)
            print(f"{name}: " + ", ".join(f"{key} {each['ratio']:.2f}" for key, each in cases[name].items()))
    record = {
        **results.provenance("benchmarks.step", given, commit),
        "rounds": args.rounds,
        "steps": args.steps,
        "cases": cases,
        "reached": reached(cases) if args.torch else {},
    }
    if args.json:
        results.write(args.json, record)
    print("\n" + render(record))
    return 0


def write_case(name: str, folder: Path) -> None:
    """Write a case to `folder`: head.tflite, and what `step_worker` reads."""
    from keras_cbpnet.export.head import convert_head
    from keras_cbpnet.layers.cbp_head import CBPHead

    folder.mkdir(parents=True, exist_ok=True)
    config, rng = CASES[name], np.random.default_rng(0)
    mean, scale = rng.normal(0, 0.3, D).astype(np.float32), rng.uniform(0.4, 0.9, D).astype(np.float32)
    centres = rng.normal(0, 0.05, (config.slots, D)).astype(np.float32)
    label = rng.integers(0, config.slots, (BATCHES, config.batch)).astype(np.int32)
    x = centres[label] + rng.normal(0, 1.0, (*label.shape, D))
    bound = math.sqrt(6 / D)
    head = CBPHead(config, own_step=True)
    head.build((None, D))
    head.feature_mean.assign(mean)
    head.feature_scale.assign(scale)
    w1 = rng.uniform(-bound, bound, (D, config.units))
    counts = {"class_mask": np.ones(config.slots), "class_count": np.full(config.slots, 4.0)}
    head.assign({"w1": w1, "class_mean": centres * scale + mean, **counts})
    (folder / "head.tflite").write_bytes(convert_head(head))
    np.savez(folder / "state.npz", **{key: value.numpy() for key, value in head.state.items()})
    np.savez(
        folder / "batches.npz",
        feature=(x * scale + mean).astype(np.float32),
        label=label,
        class_mask=np.ones((BATCHES, config.slots), np.float32),
        fresh=rng.uniform(-bound, bound, (BATCHES, D)).astype(np.float32),
    )
    constants = {"feature_mean": mean.tolist(), "feature_scale": scale.tolist()}
    (folder / "config.json").write_text(json.dumps({**dataclasses.asdict(config), **constants}))


class Worker:
    """An engine as a process."""

    def __init__(self, name: str, python: str, arguments: Sequence[str | Path]) -> None:
        env, pipe = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}, subprocess.PIPE
        command = [python, WORKER, *arguments]
        self._name = name
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)
        except OSError as error:
            raise UserError(f"{python} does not start ({error.strerror}); give the Python of an environment") from error

    def step(self, count: int) -> tuple[float, float]:
        """Do `count` steps; return microseconds a step, and the last loss."""
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None and stdout is not None and stderr is not None  # noqa: S101, PT018
        try:
            stdin.write(f"{count}\n")
            stdin.flush()
        except BrokenPipeError:
            answer = ""
        else:
            answer = stdout.readline()
        if not answer:
            said = (stderr.read().strip().splitlines() or ["it ended without a word"])[-1]
            raise UserError(f"{self._name} does not step ({said}); install it again, or leave it out")
        spent, loss = map(float, answer.split())
        return spent, loss

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def engines(case: Path, args: argparse.Namespace) -> dict[str, Worker]:
    """Start what is compared on a case; the first is what the others are compared with."""
    found = {}

    def start(name: str, engine: str, *files: Path, python: str = sys.executable) -> None:
        found[name] = Worker(name, python, [case, engine, *files])

    if args.torch:
        start("torch", "torch", python=args.torch)
        start("products", "products", python=args.torch)
    start("numpy", "numpy")
    for runtime in RAN:
        if not importlib.util.find_spec(str(RUNTIMES[runtime].module).partition(".")[0]):
            continue
        start(runtime, runtime, case / "head.tflite")
        if args.against:
            start(f"{runtime} before", runtime, args.against / case.name / "head.tflite")
    return found


def measure(case: Path, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return microseconds of the fastest turn, and median and quartiles of the ratio to the first engine, of each."""
    workers = engines(case, args)
    try:
        losses = {name: worker.step(WARM_UP)[1] for name, worker in workers.items() if name != "products"}
        if not max(losses.values()) - min(losses.values()) <= AGREE * max(losses.values()):
            raise UserError(f"{case.name}: the engines do not agree after {WARM_UP} steps: {losses}")
        names = list(workers)
        turns: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(args.rounds):
            shift = turn % len(names)
            for name in (*names[shift:], *names[:shift]):
                turns[name].append(workers[name].step(args.steps)[0])
    finally:
        for worker in workers.values():
            worker.end()
    found = {}
    for name, spent in turns.items():
        low, middle, high = statistics.quantiles([a / b for a, b in zip(spent, turns[names[0]], strict=True)], n=4)
        found[name] = {"us": round(min(spent), 1), "ratio": middle, "low": low, "high": high}
    return found


def reached(cases: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, bool]:
    """Return which of the numbers asked for were reached."""
    return {
        f"{runtime}, {case}: at most {most:g} of PyTorch": cases[case][runtime]["ratio"] <= most
        for runtime, of_case in TARGETS.items()
        for case, most in of_case.items()
        if runtime in cases[case]
    }


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    cases = record["cases"]
    names = list(cases[next(iter(cases))])
    rows = [[f"time over that of {names[0]}", *(f"{case}: {shape(case)}" for case in cases)]]
    for name in names:
        cells = (cases[case][name] for case in cases)
        rows.append([name, *(f"{c['ratio']:.2f} [{c['low']:.2f}-{c['high']:.2f}], {c['us']:.0f} µs" for c in cells)])
    missed = [text for text, good in record["reached"].items() if not good]
    end = "" if not missed else "\n\nNot reached: " + "; ".join(missed)
    return f"{markdown(rows)}{end}"


def shape(case: str) -> str:
    """Return the sizes of a case in words."""
    config = CASES[case]
    return f"{config.units} units, {config.slots} classes, {config.batch} rows"


if __name__ == "__main__":
    sys.exit(cli.run(main))
