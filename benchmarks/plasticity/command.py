"""Loss of plasticity over a thousand tasks, rule by rule.

    python -m benchmarks.plasticity --features FILE.npz --tasks 1000 --seeds 0,1,2 --json OUT
    python -m benchmarks.plasticity --features FILE.npz --tasks 200 --tune --seeds 100 # where settings come from
    python -m benchmarks.plasticity --features FILE.npz --rules cbp --engine tflite # through the device package

FILE holds x_train [N, d], y_train, x_test, y_test: features of a frozen backbone. Tasks of ten classes drawn with
replacement, labels 0 to 9 used again and again, nothing reset; 50 training images a class, 5 passes, batch 16; accuracy
on all test images of those classes. Same tasks for every rule of a seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results
from benchmarks.common.stages import ROOT, shown
from benchmarks.plasticity.engines import KerasEngine, run_tflite
from benchmarks.plasticity.rules import NAMES, Setting, check, configurations, on_device, setting
from benchmarks.plasticity.stream import Features, Stream, load_features
from benchmarks.plasticity.tables import FIRST, LAST, render, render_tuning
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

TUNING_SEEDS = [100, 101]
TRIALS = 12
ENGINES = ("keras", "tflite")


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    summary = (__doc__ or "").splitlines()[0]
    parser = cli.ArgumentParser(prog="python -m benchmarks.plasticity", description=summary)
    add = parser.add_argument
    add("--features", type=Path, required=True, metavar="FILE", help="features of a frozen backbone, .npz")
    add("--tasks", type=count, default=1000, metavar="T", help="tasks of the stream")
    add("--seeds", type=cli.seed_list, metavar="S,S,...", help="streams; default 0,1,2, with --tune 100,101")
    add("--rules", type=lambda text: text.split(","), metavar="R,R,...", help="rules; default: " + ",".join(NAMES))
    add(
        "--engine",
        choices=ENGINES,
        default="keras",
        help="engine: keras, or tflite, the device package on a head.tflite, for some rules",
    )
    add("--tune", action="store_true", help="search: settings of every rule drawn at random, the best named")
    add("--trials", type=count, default=TRIALS, metavar="N", help="settings that each rule tries, with --tune")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run every rule on every seed, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(argv)
    known = on_device() if args.engine == "tflite" else NAMES
    rules = args.rules or list(known)
    check(rules)
    if len(set(rules)) < len(rules):
        raise UserError(f"--rules names a rule twice: {','.join(rules)}")
    if other := [name for name in rules if name not in known]:
        raise UserError(f"--engine tflite runs the rules {', '.join(known)}, not {other[0]}")
    if args.engine == "tflite" and args.tune:
        raise UserError("--tune needs --engine keras")
    seeds = args.seeds or (TUNING_SEEDS if args.tune else [0, 1, 2])
    output = args.json
    features = load_features(args.features)
    runs = Runs(args.features, features, args.tasks, args.engine, output)
    record = {
        **results.provenance("benchmarks.plasticity", given, runs.commit),
        "features": {"file": args.features.name, "sha256": runs.digest, "width": int(features.x_train.shape[1])},
        "engine": args.engine,
        "tasks": args.tasks,
        "seeds": seeds,
    }
    if args.tune:
        record["rules"] = tune(rules, seeds, args.trials, runs)
        print(render_tuning(record))
    else:
        record["rules"] = measure(rules, seeds, runs)
        print(render(record))
    if output:
        results.write(output, record)
        runs.forget()
        print(f"written: {shown(output)}", file=sys.stderr)
    return 0


class Runs:
    """Curves of rules and seeds; those of an interrupted command are found again beside its output file.

    Args:
        file: of the features.
        features: what is in it.
        tasks: of a stream.
        engine: `keras` or `tflite`.
        output: the file that the command writes, or None.
    """

    def __init__(self, file: Path, features: Features, tasks: int, engine: str, output: Path | None) -> None:
        self.file, self.features, self.tasks, self.engine = file, features, tasks, engine
        self.commit = results.commit(ROOT)
        self.digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self._cache = output.with_name(output.name + ".part.jsonl") if output else None
        self._done: dict[str, dict[str, Any]] = {}
        if self._cache and self._cache.exists():
            for line in self._cache.read_text().splitlines():
                try:
                    row = json.loads(line)
                    self._done[row["key"]] = row
                except (ValueError, KeyError):
                    continue  # the line that was being written when the command was killed

    def curve(
        self, kind: Setting, seed: int, engine: KerasEngine | None, step: Callable[[], Any]
    ) -> tuple[list[float], float]:
        """Return the accuracy on each task, in 0..1, and the seconds it took.

        Args:
            kind: rule and head.
            seed: of the stream.
            engine: for `kind`, or None with --engine tflite.
            step: called after every task.
        """
        key = json.dumps([kind.to_dict(), seed, self.tasks, self.engine, self.digest, self.commit])
        if key not in self._done:
            begun, stream = time.perf_counter(), Stream(self.features, seed)
            if engine:
                steps = engine.run(self.features, stream, self.tasks)
            else:
                steps = run_tflite(kind, self.file, stream, self.tasks)
            curve = []
            for accuracy in steps:
                curve.append(accuracy)
                step()
            row = {"key": key, "curve": curve, "seconds": round(time.perf_counter() - begun, 1)}
            self._done[key] = row
            if self._cache:
                with self._cache.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        return self._done[key]["curve"], self._done[key]["seconds"]

    def new_engine(self, kind: Setting) -> KerasEngine | None:
        """Return the Keras engine for `kind`, or None with --engine tflite."""
        return KerasEngine(kind, self.features.x_train.shape[1]) if self.engine == "keras" else None

    def forget(self) -> None:
        """Remove what an interrupted command would have been continued from."""
        if self._cache:
            self._cache.unlink(missing_ok=True)


def measure(rules: Sequence[str], seeds: Sequence[int], runs: Runs) -> dict[str, Any]:
    """Return each rule's last_100 and first_20 (one per seed), curve (mean over seeds), std, settings and seconds."""
    found = {}
    with progress(len(rules) * len(seeds) * runs.tasks) as (step, say):
        for name in rules:
            kind = setting(name)
            engine = runs.new_engine(kind)
            curves, seconds = zip(*(runs.curve(kind, seed, engine, step) for seed in seeds), strict=True)
            last = [float(np.mean(curve[-LAST:])) for curve in curves]
            found[name] = {
                "last_100": last,
                "mean": statistics.fmean(last),
                "std": statistics.stdev(last) if len(last) > 1 else None,
                "first_20": [float(np.mean(curve[:FIRST])) for curve in curves],
                "curve": np.mean(curves, axis=0).tolist(),
                "settings": kind.to_dict(),
                "seconds": list(seconds),
            }
            say(f"{name}: {100 * found[name]['mean']:.2f} % over the last {min(LAST, runs.tasks)} tasks")
    return found


def tune(rules: Sequence[str], seeds: Sequence[int], trials: int, runs: Runs) -> dict[str, Any]:
    """Return each rule's tried settings, best first, by the mean over the second half of the stream and the seeds."""
    found = {}
    with progress(len(rules) * trials * len(seeds) * runs.tasks) as (step, say):
        for name in rules:
            tried = []
            for values in configurations(name, trials):
                kind = setting(name, **values)
                engine = runs.new_engine(kind)
                curves = [runs.curve(kind, seed, engine, step)[0] for seed in seeds]
                score = float(np.mean(curves, axis=0)[runs.tasks // 2 :].mean())
                tried.append({"settings": values, "second_half": score})
                say(f"{name} {values}: {100 * score:.2f} %")
            found[name] = sorted(tried, key=lambda row: -row["second_half"])
    return found


@contextmanager
def progress(total: int) -> Iterator[tuple[Callable[[], Any], Callable[[str], None]]]:
    """Yield a function to call after every task and one that shows a line: beside a bar on a terminal, or alone."""
    if not sys.stderr.isatty():
        yield lambda: None, lambda line: print(line, file=sys.stderr, flush=True)
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="task", leave=False) as bar:
        yield bar.update, lambda line: bar.write(line, file=sys.stderr)


def count(text: str) -> int:
    """Return the number in `text`."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)
