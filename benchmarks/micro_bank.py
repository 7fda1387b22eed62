"""The bank of a microcontroller beside its rivals: `python -m benchmarks.micro_bank --data digits,npz:cifar100.npz`.

Class-incremental, two classes a task, no prompts: final average accuracy over all classes. The bank is the C++ of
`--target micro`, compiled for this machine, which takes each training image once, one at a time, in the tasks' order;
its rivals are runs of `python -m keras_cbpnet.train` on the same float32 features. Of data with more classes than
slots, each seed draws some. A command that was killed goes on in its --work folder.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.class_incremental import COMMON, ROWS
from benchmarks.common import results, runs
from benchmarks.common.micro_bank import PREDICT, CppBank
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.presets import get_preset

RIVALS: dict[str, dict[str, Any]] = {
    "block": ROWS["block"],
    "block, replay of statistics": {"bank": False, "replay": "statistics"},
    "slda": ROWS["slda"],
}
CPP = "bank in C++"
TASK = 2  # classes


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = runs.build_parser("micro_bank", __doc__, data="digits", seeds=[10, 11, 12])
    parser.set_defaults(preset="vit_micro_32")
    parser.add_argument("--slots", type=int, choices=range(2, 101), default=16, metavar="K", help="classes of the bank")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run every row, print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit = results.commit(ROOT)
    from keras_cbpnet.export.micro.bank import DIRECTIONS

    args.work.mkdir(parents=True, exist_ok=True)
    cpp = CppBank(args.work, (get_preset(args.preset).backbone.width, args.slots, DIRECTIONS))
    found: dict[str, Any] = {}
    for spec in args.data.split(","):
        name = Path(spec.removeprefix("npz:")).stem
        accuracy: dict[str, list[float]] = {row: [] for row in (CPP, *RIVALS)}
        for seed in args.seeds:
            data, classes = draw(spec, args, args.work / f"{name}-{seed}.npz", seed)
            common = {**COMMON, "preset": args.preset, "weights": str(args.weights or ""), "dataset": data}
            configs = {
                row: TrainConfig(**{**common, **changes, "tasks": classes // TASK, "seed": seed})
                for row, changes in RIVALS.items()
            }
            accuracy[CPP].append(average_accuracy(cpp, configs["slda"]))
            for row, config in configs.items():
                metrics = runs.run(config, args.work / f"{args.preset}-{name}-{row.split()[-1]}" / f"seed-{seed}")
                accuracy[row].append(metrics["average_accuracy"])
            runs.say(f"{name}, seed {seed}: " + ", ".join(f"{row} {each[-1]:.4f}" for row, each in accuracy.items()))
        found[name] = {"classes": classes, "accuracy": {row: over(values) for row, values in accuracy.items()}}
    record = {
        **results.provenance("benchmarks.micro_bank", given, commit),
        "preset": args.preset,
        "seeds": args.seeds,
        "common": COMMON,
        "rows": RIVALS,
        "sizes": dict(zip(("features", "slots", "directions"), cpp.sizes)),
        "bank_bytes": cpp.bytes,
        "found": found,
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {shown(args.json)}")
    print(render(record))
    return 0


def draw(spec: str, args: Any, file: Path, seed: int) -> tuple[str, int]:
    """Return data of at most as many classes as the bank has slots, and their number.

    Args:
        spec: labelled images.
        args: of the command line.
        file: for the images of the classes drawn.
        seed: of the draw.
    """
    from keras_cbpnet.data import open_dataset

    data = open_dataset(spec, get_preset(args.preset).backbone.image_size)
    classes = len(data.class_names)
    if classes <= args.slots:
        return spec, classes
    chosen = np.sort(np.random.default_rng(seed).permutation(classes)[: args.slots])
    if not file.exists():
        arrays: dict[str, Any] = {"class_names": np.array(data.class_names)[chosen]}
        for part, labels in (("train", data.y_train), ("test", data.y_test)):
            rows = np.flatnonzero(np.isin(labels, chosen))
            arrays[f"x_{part}"] = data.images(part, rows)
            arrays[f"y_{part}"] = np.searchsorted(chosen, labels[rows])
        np.savez(file, **arrays)
    return f"npz:{file}", args.slots


def average_accuracy(cpp: CppBank, config: TrainConfig) -> float:
    """Return the mean over the tasks of `config` of a bank's accuracy on each, after it has learned them all."""
    from keras_cbpnet.data import make_stream, open_dataset
    from keras_cbpnet.head.standardise import mean_and_scale
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.training.features.cache import FrozenFeatures

    backbone = Backbone.from_preset(config.preset, config.weights or None)
    data = open_dataset(config.dataset, backbone.config.image_size)
    features = FrozenFeatures(backbone, data, runs.say)
    tasks = make_stream("class", data, config.tasks, config.seed)
    rng = np.random.default_rng(config.seed)
    orders = [rng.permutation(len(task.y_train)) for task in tasks]
    learned = [features.rows("train", task.train_rows[order]) for task, order in zip(tasks, orders)]
    tested = [features.rows("test", task.test_rows) for task in tasks]
    start = dict(zip(("feature_mean", "feature_scale"), mean_and_scale(learned[0])))
    taught = [task.y_train[order] for task, order in zip(tasks, orders)]
    asked = [np.full(len(rows), PREDICT) for rows in tested]
    logits = cpp.logits(np.concatenate(taught + asked), np.concatenate(learned + tested), start)
    right = logits.argmax(axis=1) == np.concatenate([task.y_test for task in tasks])
    ends = np.cumsum([len(rows) for rows in tested])[:-1]
    return statistics.fmean(float(part.mean()) for part in np.split(right, ends))


def over(values: Sequence[float]) -> dict[str, Any]:
    """Return a number of all seeds with its mean and deviation."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"values": list(values), "mean": statistics.fmean(values), "std": std}


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    columns = list(record["found"].values())
    table = [["", *(f"{name}, {found['classes']} classes" for name, found in record["found"].items())]]
    for row in columns[0]["accuracy"]:
        table.append([row, *(runs.cell(found["accuracy"][row]) for found in columns)])
    sizes = ", ".join(f"{size} {name}" for name, size in record["sizes"].items())
    head = f"{record['preset']}, bank of {sizes}: {record['bank_bytes'] / 1024:.1f} KiB of RAM, work memory included"
    seeds = ", ".join(map(str, record["seeds"]))
    return f"{head}; seeds {seeds}; final average accuracy, %\n\n{markdown(table)}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
