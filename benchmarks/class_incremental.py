"""Class-incremental learning, method by method: final average accuracy over all classes after T tasks.

    python -m benchmarks.class_incremental --data npz:cifar100.npz --tasks 10,20,50 --seeds 0,1,2,3,4
    python -m benchmarks.class_incremental --data npz:cifar100.npz --preset deit_tiny_16_224 --weights FILE

Every row is a run of `python -m keras_cbpnet.train` without quantization, whose options the result file holds; each
image is classified on its own, without its task's number. A command that was killed goes on in its --work folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.stages import ROOT, shown
from benchmarks.tables import markdown
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig, read_config
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import PRESETS, check_weights, get_preset

# What each row changes of the trainer's defaults and of COMMON; rates from earlier sketches, not tuned yet.
COMMON: dict[str, Any] = {"qat": False, "epochs": 1, "head_epochs": 5, "batch": 24}
BLOCK: dict[str, Any] = {"learning_rate": 2e-4}
LINEAR: dict[str, Any] = {"learning_rate": 1e-3}
ROWS: dict[str, dict[str, Any]] = {
    "cbpnet": {**BLOCK},
    "cbpnet_no_cbp": {**BLOCK, "plasticity": "none"},
    "cbpnet_random_choice": {**BLOCK, "plasticity": "cbp_random"},
    "block": {**BLOCK, "prompts": False},
    "block_no_cbp": {**BLOCK, "prompts": False, "plasticity": "none"},
    "cbpnet_replay": {**BLOCK, "replay": "statistics"},
    "dualprompt": {**LINEAR, "method": "dualprompt"},
    "l2p": {**LINEAR, "method": "l2p"},
    "finetune": {**LINEAR, "method": "finetune"},
    "ncm": {"method": "ncm"},
    "slda": {"method": "slda"},
    "ranpac": {"method": "ranpac"},
}
PAIR = ("cbpnet", "dualprompt")


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(
        prog="python -m benchmarks.class_incremental", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--preset", choices=list(PRESETS), default="vit_nano_32", help="backbone")
    add("--weights", type=Path, help="weights file; default: the shipped one")
    add("--data", required=True, metavar="SPEC", help="labelled images, as --dataset of the trainer")
    add("--tasks", type=cli.seed_list, default=[10], metavar="T,T,...", help="numbers of tasks")
    add("--seeds", type=cli.seed_list, default=[0, 1, 2], metavar="S,S,...", help="class orders and weights")
    add("--rows", type=row_list, default=list(ROWS), metavar="R,R,...", help="of " + ", ".join(ROWS))
    add(
        "--per-class",
        type=cli.seed_list,
        metavar="N,M",
        help="the first N training, M test images a class alone",
    )
    add("--prompt-tasks", type=int, default=0, metavar="N", help="first tasks that train prompts; 0: all")
    add("--epochs", type=int, default=COMMON["epochs"], metavar="E", help="passes with the prompts")
    add("--work", type=Path, default=Path("runs/class_incremental"), help="folder of the run folders")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run every row, print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    check_weights(get_preset(args.preset), args.weights)
    if args.per_class and (len(args.per_class) != 2 or min(args.per_class) < 1):
        raise UserError(f"--per-class needs two numbers from 1 on, got {','.join(map(str, args.per_class))}")
    commit = results.commit(ROOT)
    size, dataset = get_preset(args.preset).backbone.image_size, args.data
    if args.per_class:
        dataset = subset(args.data, *args.per_class, args.work, size)
    chosen = {**COMMON, "prompt_tasks": args.prompt_tasks, "epochs": args.epochs}
    found: dict[str, dict[str, Any]] = {}
    for tasks in args.tasks:
        found[str(tasks)] = {}
        for row in args.rows:
            common = {**chosen, "preset": args.preset, "weights": str(args.weights or ""), "dataset": dataset}
            config = TrainConfig(**{**common, **ROWS[row], "tasks": tasks})
            name = f"{args.preset}-{tasks}-{row}"
            found[str(tasks)][row] = measure(config, args.seeds, args.work / name)
            say(f"{tasks} tasks, {row}: {cell(found[str(tasks)][row])}")
    record = {
        **results.provenance("benchmarks.class_incremental", given, commit),
        "preset": args.preset,
        "image_size": size,
        "seeds": args.seeds,
        "per_class": args.per_class,
        "common": chosen,
        "rows": {row: ROWS[row] for row in args.rows},
        "tasks": found,
        "paired": {
            tasks: results.paired(*(rows[name]["average_accuracy"] for name in PAIR))
            for tasks, rows in found.items()
            if all(name in rows for name in PAIR)
        },
    }
    if args.json:
        results.write(args.json, record)
        say(f"written: {shown(args.json)}")
    print(render(record))
    return 0


def subset(spec: str, train: int, test: int, folder: Path, size: int) -> str:
    """Return the data set of the first `train` training and `test` test images of each class of `spec`, as a file."""
    from keras_cbpnet.data import open_dataset

    data = open_dataset(spec, size)
    rows = {
        part: np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(len(data.class_names))])
        for part, labels, count in (("train", data.y_train, train), ("test", data.y_test, test))
    }
    arrays: dict[str, Any] = {"class_names": np.array(data.class_names)}
    for part, chosen in rows.items():
        arrays[f"x_{part}"] = getattr(data, f"x_{part}")[np.sort(chosen)]
        arrays[f"y_{part}"] = getattr(data, f"y_{part}")[np.sort(chosen)]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"data-{train}-{test}.npz"
    np.savez(file, **arrays)
    return f"npz:{file}"


def measure(config: TrainConfig, seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    """Return what the metrics of `config` come to, one number a seed, and the seconds that the runs took now."""
    begun = time.perf_counter()
    runs = [run(dataclasses.replace(config, seed=seed), folder / f"seed-{seed}") for seed in seeds]
    accuracy = [run["average_accuracy"] for run in runs]
    return {
        "average_accuracy": accuracy,
        "mean": statistics.fmean(accuracy),
        "std": statistics.stdev(accuracy) if len(seeds) > 1 else None,
        **{name: [run[name] for run in runs] for name in ("average_incremental_accuracy", "forgetting")},
        "seconds": round(time.perf_counter() - begun, 1),
    }


def run(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Return the metrics of `config`, from its run folder if it is finished."""
    from keras_cbpnet.training.trainer import train

    finished = folder / "metrics.json"
    if finished.exists() and read_config(folder) == config:
        return json.loads(finished.read_text())
    return train(config, folder)


def render(record: dict[str, Any]) -> str:
    """Return the table of a result: a row a method, a column a number of tasks, best first."""
    columns = list(record["tasks"])
    names = sorted(record["rows"], key=lambda row: -record["tasks"][columns[0]][row]["mean"])
    table = [["", *(f"T = {tasks}" for tasks in columns)]]
    table += [[name, *(cell(record["tasks"][tasks][name]) for tasks in columns)] for name in names]
    lines = [
        f"T = {tasks}: {' over '.join(PAIR)} {100 * pair['difference']:+.2f} points, 95 % confidence "
        f"{100 * pair['low']:+.2f} to {100 * pair['high']:+.2f}"
        for tasks, pair in record["paired"].items()
    ]
    seeds = ", ".join(map(str, record["seeds"]))
    images = (
        "all images" if not (few := record.get("per_class")) else f"{few[0]} training and {few[1]} test images a class"
    )
    head = f"{record['preset']}, {record['image_size']} pixels, {images}, seeds {seeds}; final average accuracy, %"
    return "\n".join([head, "", markdown(table), *([""] if lines else []), *lines])


def cell(found: dict[str, Any]) -> str:
    """Return mean and deviation in percent."""
    return f"{100 * found['mean']:.1f}" + ("" if found["std"] is None else f" ± {100 * found['std']:.1f}")


def row_list(text: str) -> list[str]:
    """Return the rows named in `text`, such as `ncm,block`."""
    rows = text.split(",")
    if unknown := [row for row in rows if row not in ROWS]:
        raise argparse.ArgumentTypeError(f"no row {unknown[0]!r}; known are {', '.join(ROWS)}")
    return rows


def say(text: str) -> None:
    """Announce what was measured."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(cli.run(main))
