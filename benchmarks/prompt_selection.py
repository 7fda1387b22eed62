"""One pass or two: what the selection of the prompt costs, and what a cheaper one loses.

    python -m benchmarks.prompt_selection --seeds 0,1,2,3,4 --json benchmarks/results/prompt_selection.json

Every row is a training of its own under every seed, by `python -m keras_cbpnet.train` with its defaults but for the
row's options. The run of the first seed is converted (int8): multiply-adds, and milliseconds under each runtime, in
turns in one process. A command that was killed goes on in its --work folder. Two minutes a run on 2 idle cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from firmware_host.shared.runtimes import installed_interpreters
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig

ROWS: dict[str, dict[str, Any]] = {
    "two_passes": {},
    "depth_1": {"query_depth": 1},
    "depth_2": {"query_depth": 2},
    "depth_3": {"query_depth": 3},
    "fixed": {"prompt_selection": "fixed"},  # every task goes on training the one prompt
    "fixed_first": {"prompt_selection": "fixed", "prompt_tasks": 1},  # the first task alone trains it
    "no_prompts": {"prompts": False},
}
COST, LOSS = 0.6, 0.003  # of two passes, and of accuracy, at most, for a default of fewer
ROUNDS = 200


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = runs.build_parser("prompt_selection", __doc__, data="digits", seeds=[0, 1, 2, 3, 4])
    add = parser.add_argument
    add("--tasks", type=int, default=TrainConfig().tasks, help="number of tasks")
    add("--epochs", type=int, default=TrainConfig().epochs, metavar="E", help="passes with the prompts")
    add("--batch", type=int, default=TrainConfig().batch, metavar="B", help="images of a step")
    add("--qat", action=argparse.BooleanOptionalAction, default=True, help="train through int8 fake quantizers")
    add(
        "--rows",
        type=runs.names_of("row", ROWS),
        default=list(ROWS),
        metavar="R,R,...",
        help="the first is what others are held to; of " + ", ".join(ROWS),
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train and convert every row, print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit = results.commit(ROOT)
    common = {**runs.images_of(args), **{name: getattr(args, name) for name in ("tasks", "epochs", "batch", "qat")}}
    found: dict[str, dict[str, Any]] = {}
    for row in args.rows:
        folder = args.work / f"{args.preset}-{args.tasks}-{'' if args.qat else 'no-'}qat-{row}"
        found[row] = runs.measure(TrainConfig(**{**common, **ROWS[row]}), args.seeds, folder)
        found[row]["folder"] = folder / f"seed-{args.seeds[0]}"
        runs.say(f"{row}: {100 * found[row]['mean']:.2f}")
    costs = cost({row: each.pop("folder") for row, each in found.items()})
    first = found[args.rows[0]]["average_accuracy"]
    for row, each in found.items():
        each.update(costs[row], paired=results.paired(each["average_accuracy"], first))
    record = {
        **results.provenance("benchmarks.prompt_selection", given, commit),
        "per_class": args.per_class,
        "common": common,
        "seeds": args.seeds,
        "options": {row: ROWS[row] for row in args.rows},
        "rows": found,
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {shown(args.json)}")
    print(render(record))
    return 0


def cost(folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Return `multiply_adds` and `milliseconds` by runtime, of the int8 backbone of every run by its name."""
    import keras
    import numpy as np

    from keras_cbpnet.config import read_config
    from keras_cbpnet.data import open_dataset
    from keras_cbpnet.export.backbone import convert_backbone
    from keras_cbpnet.export.runtimes import time_backbones
    from keras_cbpnet.export.tflite_file.macs import multiply_adds

    files, image = {}, None
    for name, run in folders.items():
        model = keras.models.load_model(run / "model.keras")
        data = open_dataset(read_config(run).dataset, model.backbone.config.image_size)
        images = data.images("train", np.arange(100))
        files[name], image = convert_backbone(model, "int8", images), images[0]
    times = {runtime: time_backbones(files, image, runtime, ROUNDS) for runtime in installed_interpreters()}
    return {
        name: {
            "multiply_adds": multiply_adds(file),
            "milliseconds": {runtime: each[name] for runtime, each in times.items()},
        }
        for name, file in files.items()
    }


def render(record: dict[str, Any]) -> str:
    """Return the table of a result: a row a choice, in parentheses the share of what the first one costs."""
    rows = record["rows"]
    runtimes = list(next(iter(rows.values()))["milliseconds"])
    base = next(iter(rows.values()))
    table = [["", "accuracy, %", "less the first, points", "multiply-adds, M", *(f"ms, {name}" for name in runtimes)]]
    for name, row in rows.items():
        std = "" if row["std"] is None else f" ± {100 * row['std']:.1f}"
        pair = row["paired"]
        change = (
            "-"
            if row is base
            else f"{100 * pair['difference']:+.2f} ({100 * pair['low']:+.2f} to {100 * pair['high']:+.2f})"
        )
        adds = f"{row['multiply_adds'] / 1e6:.1f} ({row['multiply_adds'] / base['multiply_adds']:.0%})"
        times = [
            f"{row['milliseconds'][each]:.2f} ({row['milliseconds'][each] / base['milliseconds'][each]:.0%})"
            for each in runtimes
        ]
        table.append([name, f"{100 * row['mean']:.1f}{std}", change, adds, *times])
    common, seeds = record["common"], ", ".join(map(str, record["seeds"]))
    what = f"{common['preset']}, {common['dataset']}, {runs.images_shown(record)}"
    training = "int8" if common["qat"] else "float32"
    head = (
        f"{what}, {common['tasks']} tasks, {training} training, seeds {seeds}; final "
        "average accuracy on the host, 95 % confidence of the paired difference; cost of the int8 file, one thread"
    )
    return "\n".join([head, "", markdown(table), "", verdict(rows)])


def verdict(rows: dict[str, dict[str, Any]]) -> str:
    """Return which rows cost at most 60 % of the first one, in multiply-adds, and lose at most 0.3 points to it."""
    base, *others = rows.items()
    cheap = [item for item in others if item[1]["multiply_adds"] <= COST * base[1]["multiply_adds"]]
    good = [name for name, row in cheap if row["mean"] >= base[1]["mean"] - LOSS]
    least = min(row["multiply_adds"] for _, row in others) / base[1]["multiply_adds"] if others else 1.0
    if not cheap:
        return f"None costs at most {COST:.0%} of the first: the cheapest {least:.0%} of its multiply-adds."
    return (
        f"At most {COST:.0%} of the multiply-adds, at most {100 * LOSS:.1f} points lost: {', '.join(good) or 'none'}."
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
