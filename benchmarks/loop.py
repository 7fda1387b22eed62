"""The loop around the training graph: how much of learning is not the graph, and how its parts grow.

    python -m benchmarks.loop --bundle BUNDLE --before FOLDER --json benchmarks/results/loop.json

Processor time, one thread; what is compared takes turns in one process, so that other load on the machine meets all
alike, and what counts is each turn's ratio. FOLDER is an older checkout (`git worktree add FOLDER COMMIT`), measured in
a process of its own that takes turns with this one. Heads are converted here; BUNDLE is for lessons of one image.

Rows: a step of `learn` with all that goes on between the steps, over the graph alone; the share of it that looks at the
head take; a lesson of 16 steps; a look at one image over the graph's `infer`; reading the state, as a power of the
number of features.
"""

from __future__ import annotations

import argparse
import math
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
SCRIPT = Path(__file__).parent / "common" / "loop_worker.py"
IMAGES = 500  # of a data set: 20 epochs of it are some 600 steps
DEFAULT = "classes_16"
HEADS = {  # what a bundle has by default, and more classes
    DEFAULT: (HeadConfig(batch=32), D),
    **{f"classes_{C}": (HeadConfig(slots=C), D) for C in (10, 100, 1000)},
    **{f"features_{d}": (HeadConfig(slots=100), d) for d in (64, 384, 768)},
}
CLASSES = {C: f"classes_{C}" for C in (10, 100, 1000)}
FEATURES = {64: "features_64", D: "classes_100", 384: "features_384", 768: "features_768"}
LOOP, TEACH, STATE = "loop / graph", "a lesson, ms", "state, exponent of d"
LOOKS, INFER = "looks / training, {} classes", "infer / graph's, {} classes"
ASKED = {LOOP: 1.6, TEACH: 5.0, LOOKS.format(1000): 0.05, INFER.format(1000): 0.1, STATE: 1.1}


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.loop", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--bundle", type=Path, metavar="BUNDLE", help="bundle for lessons of one image; none: they are left out")
    add("--before", type=Path, metavar="FOLDER", help="checkout to compare with")
    add("--runtime", default="ai_edge_litert", choices=tuple(RUNTIMES), help="what computes the head")
    add("--rounds", type=int, default=9, metavar="N", help="turns of each")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    if args.rounds < 2:
        raise UserError(f"--rounds {args.rounds}: use 2 or more")
    commit = results.commit(ROOT)
    checkouts = {"now": ROOT, **({"before": args.before.resolve()} if args.before else {})}
    with tempfile.TemporaryDirectory() as folder:
        for name, (config, d) in HEADS.items():
            write_head(config, d, Path(folder) / name)
        rounds = measured(checkouts, Path(folder), args)
    record = {
        **results.provenance("benchmarks.loop", given, commit),
        "before": results.commit(args.before) if args.before else None,
        "runtime": args.runtime,
        "images": IMAGES,
        "microseconds": rounds,
        "found": {name: found(each) for name, each in rounds.items()},
    }
    record["reached"] = reached(record["found"]["now"])
    if args.json:
        results.write(args.json, record)
    print(render(record))
    return 0


def measured(
    checkouts: Mapping[str, Path], heads: Path, args: argparse.Namespace
) -> dict[str, list[dict[str, list[float]]]]:
    """Return what each checkout's worker answered in every round, by what it was asked."""
    arguments = [heads, str(args.bundle.resolve() if args.bundle else ""), args.runtime]
    workers = {name: Worker(name, SCRIPT, arguments, root=root) for name, root in checkouts.items()}
    try:
        for worker in workers.values():  # the first of each allocates
            for line in asked(bool(args.bundle), few=True):
                worker.ask(line)
        rounds: dict[str, list[dict[str, list[float]]]] = {name: [] for name in workers}
        for turn in range(args.rounds):
            answers: dict[str, dict[str, list[float]]] = {name: {} for name in workers}
            for line in asked(bool(args.bundle)):
                for name, worker in workers.items():
                    answers[name][line.rpartition(" ")[0]] = worker.ask(line)
            for name in workers:
                rounds[name].append(answers[name])
            print(f"round {turn + 1} of {args.rounds}", file=sys.stderr, flush=True)
    finally:
        for worker in workers.values():
            worker.end()
    return rounds


def asked(lessons: bool, few: bool = False) -> list[str]:
    """Return the lines that a worker is asked in a round; `few`: the same with little to do."""
    share = 20 if few else 1

    def line(measure: str, name: str, count: int) -> str:
        return f"{measure} {name} {-(-count // share)}"

    lines = []
    for name in (DEFAULT, *CLASSES.values()):
        lines += [line("invoke", name, 200), line("step", name, 200), line("loop", name, IMAGES)]
        lines += [line("infer", name, 200)]
    lines += [line("state", name, 60) for name in FEATURES.values()]
    return lines + ([line("teach", "-", 32)] if lessons else [])


def found(rounds: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, dict[str, float]]:
    """Return median and quartiles over the rounds of everything that is asked for, and of what explains it."""
    each: dict[str, list[float]] = {
        LOOP: [one[f"loop {DEFAULT}"][0] / one[f"invoke {DEFAULT}"][0] for one in rounds],
        "step / graph": [one[f"step {DEFAULT}"][0] / one[f"invoke {DEFAULT}"][0] for one in rounds],
    }
    if "teach -" in rounds[0]:
        each[TEACH] = [one["teach -"][0] / 1e3 for one in rounds]
    for count, name in CLASSES.items():
        pairs = [one[f"loop {name}"] for one in rounds]
        each[LOOKS.format(count)] = [looks / (whole - looks) for whole, looks in pairs]
        each[INFER.format(count)] = [one[f"infer {name}"][0] / one[f"infer {name}"][1] for one in rounds]
    each[STATE] = [exponent({d: one[f"state {name}"][0] for d, name in FEATURES.items()}) for one in rounds]
    return {name: spread(values) for name, values in each.items()}


def exponent(times: Mapping[int, float]) -> float:
    """Return p of the power law time = c d^p that fits times by d best, in logarithms."""
    x, y = [math.log(d) for d in times], [math.log(time) for time in times.values()]
    return statistics.linear_regression(x, y).slope


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "low": low, "high": high}


def reached(now: Mapping[str, Mapping[str, float]]) -> dict[str, bool]:
    """Return which of the numbers asked for were reached."""
    return {name: now[name]["median"] <= most for name, most in ASKED.items() if name in now}


def render(record: Mapping[str, Any]) -> str:
    """Return the table of a result: median and quartiles, now and before, and what is asked."""
    both, good = record["found"], record["reached"]
    rows = [["", *both, "asked"]]
    for name in both["now"]:
        cells = [
            f"{each[name]['median']:.3g} [{each[name]['low']:.3g}-{each[name]['high']:.3g}]" for each in both.values()
        ]
        said = f"{ASKED[name]:g} ({'reached' if good[name] else 'not reached'})" if name in good else "-"
        rows.append([name, *cells, said])
    before = f"; before: commit {str(record['before'])[:7]}" if record["before"] else ""
    return f"Under {record['runtime']}, processor time{before}.\n\n{markdown(rows)}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
