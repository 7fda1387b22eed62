"""Branches of the stem (OREPA), equal epochs and equal time: `python -m benchmarks.reparam --data npz:cifar100.npz`.

Each row is a pretraining from random weights by the labels alone, `python -m keras_cbpnet.pretrain`, without int8, and
then nearest class mean and linear discriminant analysis on the frozen features, as in `benchmarks.backbones`: the plain
stem, the stem with --reparam orepa, and the plain stem for as many more epochs as the branches cost processor time.
What a killed command has trained is not trained again.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.backbones import float_features, probes
from benchmarks.common import results
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from keras_cbpnet import cli
from keras_cbpnet.presets import PRESETS

PLAIN, BRANCHED, LONGER = "plain", "branches", "plain, equal time"
MEASURES = {"lda": "LDA", "nearest_class_mean": "nearest class mean"}


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.reparam", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--preset", choices=list(PRESETS), default="vit_micro_32", help="backbone")
    add("--data", required=True, metavar="SPEC", help="labelled images, as --dataset of the trainer")
    add("--seeds", type=cli.seed_list, default=[0, 1, 2], metavar="S,S,...", help="seeds of weights and order")
    add("--epochs", type=int, default=10, help="epochs of the first two rows")
    add("--work", type=Path, default=Path("runs/reparam"), help="folder of the weights")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Pretrain, measure, print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit = results.commit(ROOT)
    rows: dict[str, list[dict[str, Any]]] = {PLAIN: [], BRANCHED: [], LONGER: []}
    for seed in args.seeds:
        plain = pretrained(args, seed, args.epochs)
        branched = pretrained(args, seed, args.epochs, "--reparam", "orepa")
        more = max(args.epochs, math.ceil(args.epochs * branched["seconds"] / plain["seconds"]))
        longer = plain if more == args.epochs else pretrained(args, seed, more)
        for name, found in zip(rows, (plain, branched, longer), strict=True):
            rows[name].append(found)
        print(render({"rows": rows}), file=sys.stderr, flush=True)
    record = {
        **results.provenance("benchmarks.reparam", given, commit),
        "preset": args.preset,
        "seeds": args.seeds,
        "rows": rows,
    }
    if args.json:
        results.write(args.json, record)
    print(render(record))
    return 0


def pretrained(args: Any, seed: int, epochs: int, *options: str) -> dict[str, Any]:
    """Pretrain, or read what was pretrained before; return its epochs, processor seconds and accuracies."""
    weights = args.work / f"{'-'.join([str(seed), str(epochs), *options[1:]])}.npz"
    done = weights.with_suffix(".accuracy.json")
    if done.exists():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    weights.parent.mkdir(parents=True, exist_ok=True)
    words = ["--preset", args.preset, "--data", args.data, "--seed", str(seed), "--epochs", str(epochs)]
    words += ["--qat-epochs", "0", "--output", str(weights), "--overwrite", *options]
    before = os.times()
    subprocess.run([sys.executable, "-m", "keras_cbpnet.pretrain", *words], check=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    found = {"epochs": epochs, "seconds": round(spent, 1), **accuracies(args, weights)}
    results.write(done, found)
    return found


def accuracies(args: Any, weights: Path) -> dict[str, float]:
    """Return top-1 accuracies on the features of `weights`, by name of the classifier."""
    from keras_cbpnet.data import open_dataset
    from keras_cbpnet.models.backbone import Backbone

    backbone = Backbone.from_preset(args.preset, weights)
    data = open_dataset(args.data, backbone.config.image_size)
    found = probes(float_features(backbone, data), data)
    return {name: found[name] for name in MEASURES}


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    table = [["stem", "epochs", "processor s", *MEASURES.values(), "LDA from plain"]]
    rows = record["rows"]
    for name, runs in rows.items():
        means = [statistics.fmean(run[key] for run in runs) for key in ("epochs", "seconds", *MEASURES)]
        gains = [100 * (run["lda"] - plain["lda"]) for run, plain in zip(runs, rows[PLAIN], strict=True)]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        shown = [f"{means[0]:.0f}", f"{means[1]:.0f}", *(f"{100 * mean:.1f}" for mean in means[2:])]
        table.append([name, *shown, "" if name == PLAIN else f"{statistics.fmean(gains):+.1f} ({each})"])
    return markdown(table)


if __name__ == "__main__":
    sys.exit(cli.run(main))
