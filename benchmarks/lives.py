"""Twelve lives of one block: class-incremental streams in succession, while the inputs drift.

    python -m benchmarks.lives --features FILE.npz --seeds 0,1,2,3,4 --json benchmarks/results/lives.json

FILE holds x_train [N, d], y_train, x_test, y_test: features of a frozen backbone, none of them whitened or scaled. A
life is one stream of tasks over all classes in random order, rehearsal-free, loss over the task's own classes;
then class means and slots are cleared for the next, and block and optimizer go on. From life to life every feature's
gain and offset take a random step, as a camera that ages. Final average accuracy of each life, by rule; `mixture` is a
block under cbp and a bank that is emptied with the class means, `bank` is that bank alone. With --untold nothing is
cleared, and nobody says that labels mean something else: a bank has to notice.
"""

from __future__ import annotations

import argparse
import math
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from benchmarks.plasticity.stream import Features, load_raw
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError
from keras_cbpnet.seeds import folded

RULES = ("cbp", "none", "cbp_random", "mixture", "bank")
DEFAULT_RULES = ["cbp", "none", "cbp_random"]
PAIR = ("cbp", "none")
STEP = 0.1  # of the random walks of log gain and of offset
BATCH = 24


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.lives", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--features", type=Path, required=True, metavar="FILE", help="features of a frozen backbone, .npz")
    add("--lives", type=int, default=12, metavar="L", help="streams in succession")
    add("--tasks", type=int, default=10, metavar="T", help="tasks of each")
    add("--seeds", type=cli.seed_list, default=[0, 1, 2, 3, 4], metavar="S,S,...", help="seeds of orders and drifts")
    add("--jobs", type=int, default=1, metavar="N", help="seeds at a time; -1: one a core")
    known = ", ".join(RULES)
    add(
        "--rules",
        type=runs.names_of("rule", RULES),
        default=DEFAULT_RULES,
        metavar="R,R,...",
        help=f"rules, of {known}",
    )
    add("--units", type=int, default=64, metavar="h", help="hidden units of the block")
    add("--passes", type=int, default=1, metavar="N", help="passes over the images of a task")
    add("--learning-rate", type=float, default=2e-4, metavar="RATE", help="learning rate of the block")
    add("--replacement-rate", type=float, default=1e-4, metavar="RATE", help="resets per step and mature unit")
    add("--drift", type=float, default=STEP, metavar="S", help="step of the random walks, in deviations of a feature")
    add("--untold", action="store_true", help="clear nothing between lives, and do not say when one ends")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run every stream under every rule, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    data = load(args.features)
    classes = int(data.y_train.max()) + 1
    for name in ("lives", "passes", "tasks"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} is {getattr(args, name)}; use 1 or more")
    if classes % args.tasks:
        raise UserError(f"--tasks {args.tasks} does not divide {classes} classes; use a divisor")
    record: dict[str, Any] = {
        **results.provenance("benchmarks.lives", given, results.commit(ROOT)),
        **{name: getattr(args, name) for name in ("lives", "tasks", "seeds", "units", "passes", "learning_rate")},
        "replacement_rate": args.replacement_rate,
        "drift": args.drift,
        "untold": args.untold,
        "rules": {},
    }
    for rule in args.rules:
        lives = joblib.Parallel(n_jobs=args.jobs)(  # (S, L)
            joblib.delayed(live)(data, rule, seed, args) for seed in args.seeds
        )
        means = [statistics.fmean(each) for each in lives]
        record["rules"][rule] = {
            "lives": lives,
            "average": means,
            "mean": statistics.fmean(means),
            "std": statistics.stdev(means) if len(means) > 1 else None,
        }
        print(f"{rule}: {100 * record['rules'][rule]['mean']:.2f} %", file=sys.stderr, flush=True)
    if all(rule in record["rules"] for rule in PAIR):
        record["paired"] = results.paired(*(record["rules"][rule]["average"] for rule in PAIR))
    if args.json:
        results.write(args.json, record)
        print(f"written: {shown(args.json)}", file=sys.stderr)
    print(render(record))
    return 0


def load(path: Path) -> Features:
    """Return the features in `path`, labels from 0 on; UserError as `plasticity.stream.load_raw`."""
    raw = load_raw(path)
    names = np.unique(raw.y_train)
    train, test = (np.searchsorted(names, labels).astype(np.int32) for labels in (raw.y_train, raw.y_test))
    return raw._replace(y_train=train, y_test=test)


def live(data: Features, rule: str, seed: int, args: argparse.Namespace) -> list[float]:
    """Return the final average accuracy of each life, in 0..1."""
    import keras

    from firmware_host.bundle import ClassStatistics
    from keras_cbpnet.config import HeadConfig
    from keras_cbpnet.layers.cbp_head import CBPHead
    from keras_cbpnet.layers.mixed_head import MixedHead
    from keras_cbpnet.methods.batches import FeatureBatches

    keras.utils.set_random_seed(folded(seed))
    width, classes = data.x_train.shape[1], int(data.y_train.max()) + 1
    size = classes // args.tasks
    config = HeadConfig(
        units=args.units,
        slots=classes,
        batch=BATCH,
        learning_rate=args.learning_rate,
        replacement_rate=args.replacement_rate,
    )
    if rule in ("mixture", "bank"):
        alone = {"block_weight": 0.0} if rule == "bank" else {}
        head: CBPHead = MixedHead(config, "cbp", seed, rebinds=args.untold, name="head", **alone)
    else:
        head = CBPHead(config, rule, seed, own_step=True, name="head")
    head.build((None, width))
    head.compiled = True
    rng = np.random.default_rng(seed)
    deviation = data.x_train.std(axis=0)
    log_gain, offset, found = np.zeros(width), np.zeros(width), []
    for life in range(args.lives):
        slot = rng.permutation(classes).astype(np.int32)  # of each class
        train, test = (
            (x * np.exp(log_gain) + offset * deviation).astype(np.float32) for x in (data.x_train, data.x_test)
        )
        y_train, y_test = slot[data.y_train], slot[data.y_test]
        if life == 0 or not args.untold:
            counts = ClassStatistics.empty(classes, width)
            head.assign({"class_mask": np.zeros(classes, np.float32)})
            if isinstance(head, MixedHead):
                head.empty_bank()
        for task in range(args.tasks):
            slots = range(task * size, (task + 1) * size)
            rows = np.flatnonzero(y_train // size == task)
            if life == 0 and task == 0:
                head.standardise(train[rows])
            counts.update_all(train[rows], y_train[rows])
            head.observe_all(counts)
            head.begin_task()
            head.open(slots)
            mask = np.isin(np.arange(classes), slots).astype(np.float32)
            if isinstance(head, MixedHead):
                head.learn_bank(train[rows], y_train[rows], rng)
            batches = FeatureBatches(train[rows], y_train[rows], BATCH, None, rng)
            for _ in range(args.passes if rule != "bank" else 0):
                head.learn_many(*batches.epoch(), mask)
        guess = np.asarray(head(test)).argmax(axis=1)
        found.append(float(np.mean([np.mean(guess[y_test == c] == c) for c in range(classes)])))
        runs.say(f"{rule}, seed {seed}, life {life + 1} of {args.lives}: {100 * found[-1]:.2f} %")
        log_gain += args.drift * rng.normal(size=width)
        offset += args.drift * rng.normal(size=width)
    return found


def render(record: dict[str, Any]) -> str:
    """Return the table of the rules, best first."""
    last = record["lives"]
    table = [["rule", "all lives, %", "first", f"life {last}"]]
    for name, found in sorted(record["rules"].items(), key=lambda item: -item[1]["mean"]):
        table.append([name, _all_lives(found), *_first_and_last(found)])
    lines = []
    if pair := record.get("paired"):
        lines = ["", f"{' over '.join(PAIR)}: {_shown(pair)} points, 95 % confidence"]
    return "\n".join([f"{_what([record])}, {_settings(record)}", "", markdown(table), *lines])


def render_all(records: Sequence[dict[str, Any]]) -> str:
    """Return one table of several results on the same features: a row each, gentle ones first."""
    known = [rule for rule in RULES if any(rule in record["rules"] for record in records)]
    ends = [f"{rule}, first and last" for rule in known]
    table = [["settings", *known, f"{' over '.join(PAIR)}, 95 % confidence", *ends]]
    gains = [record["paired"]["difference"] if "paired" in record else math.inf for record in records]
    for _, record in sorted(zip(gains, records), key=lambda each: each[0]):
        found = [record["rules"].get(rule) for rule in known]
        cells = [_all_lives(each) if each else "-" for each in found]
        ends = [" to ".join(_first_and_last(each)) if each else "-" for each in found]
        table.append([_settings(record), *cells, _shown(record["paired"]) if "paired" in record else "-", *ends])
    return f"{_what(records)}\n\n{markdown(table)}"


def features_of(record: dict[str, Any]) -> str:
    """Return the name of the file of features that a result was measured on."""
    words = shlex.split(record["command"])
    return words[words.index("--features") + 1]


def _what(records: Sequence[dict[str, Any]]) -> str:
    first = records[0]
    seeds = ", ".join(map(str, first["seeds"]))
    return (
        f"{features_of(first)}: final average accuracy in %, mean over {first['lives']} lives of {first['tasks']} "
        f"tasks; h {first['units']}, seeds {seeds}"
    )


def _settings(record: dict[str, Any]) -> str:
    told = ", nobody says when a life ends" if record.get("untold") else ""
    return (
        f"passes {record.get('passes', 1)}, rate {record['learning_rate']:g}, "
        f"replacement rate {record['replacement_rate']:g}, drift {record['drift']:g}{told}"
    )


def _all_lives(found: dict[str, Any]) -> str:
    return f"{100 * found['mean']:.2f}" + ("" if found["std"] is None else f" ± {100 * found['std']:.2f}")


def _first_and_last(found: dict[str, Any]) -> list[str]:
    return [f"{100 * statistics.fmean(each[i] for each in found['lives']):.2f}" for i in (0, -1)]


def _shown(pair: dict[str, float]) -> str:
    low, high = (f"{100 * pair[end]:+.2f}" if math.isfinite(pair[end]) else "unknown" for end in ("low", "high"))
    return f"{100 * pair['difference']:+.2f} ({low} to {high})"


if __name__ == "__main__":
    sys.exit(cli.run(main))
