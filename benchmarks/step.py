"""One training step of the head, in processor time: head.tflite under each runtime, NumPy, PyTorch.

    python -m benchmarks.step --torch ENV/bin/python --against EARLIER --json benchmarks/results/step.json

Every engine is a process of its own with one thread; they take turns, so that other load on the machine meets all
alike, and what counts is each turn's time over that of the first engine. All train on the same batches, and their
losses must agree before anything is timed. PyTorch steps eagerly, gradients by autograd; `products` are its matrix
products alone. EARLIER holds the heads that another checkout wrote with --write.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import results
from benchmarks.common.heads import write_head
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from benchmarks.common.worker import Worker
from firmware_host.shared.runtimes import RUNTIMES
from keras_cbpnet import cli
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.errors import UserError

D = 192  # features
WARM_UP = 60  # steps before the first turn
AGREE = 1e-3  # of the losses after it, relative
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
        for name, config in CASES.items():
            write_head(config, D, args.write / name)
        return 0
    commit = results.commit(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        cases = {}
        for name, config in CASES.items():
            write_head(config, D, Path(folder) / name)
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


def engines(case: Path, args: argparse.Namespace) -> dict[str, Worker]:
    """Start what is compared on a case; the first is what the others are compared with."""
    found = {}

    def start(name: str, engine: str, *files: Path, python: str = sys.executable) -> None:
        found[name] = Worker(name, WORKER, [case, engine, *files], python)

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
        losses = {name: worker.ask(WARM_UP)[1] for name, worker in workers.items() if name != "products"}
        if not max(losses.values()) - min(losses.values()) <= AGREE * max(losses.values()):
            raise UserError(f"{case.name}: the engines do not agree after {WARM_UP} steps: {losses}")
        names = list(workers)
        turns: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(args.rounds):
            shift = turn % len(names)
            for name in (*names[shift:], *names[:shift]):
                turns[name].append(workers[name].ask(args.steps)[0])
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
