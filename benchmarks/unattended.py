"""What learning without supervision costs: ten images of a new class, and a stream of labels that are partly wrong.

    python -m benchmarks.unattended BUNDLE npz:digits.npz --seeds 0,1,2

DATA is what `firmware_host learn` takes; classes that the bundle does not know are the new ones. First each new
class on its own: accuracy of it and of the old classes after ten labels, one at a time, and after all of them. Then all
classes mixed, with and without labels replaced by another class's: accuracy over all test images. Nothing is saved.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host import Device
from firmware_host.images.labelled import LabelledImages, read_data
from keras_cbpnet import cli

FEW = 10


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.unattended", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="the bundle that learns")
    add("data", metavar="DATA", help="a folder with train/ and test/, or npz:PATH")
    add("--runtime", default="auto", help="what computes")
    add("--replay", default="statistics", help="statistics, buffer:N or none")
    add("--seeds", type=cli.seed_list, default=[0, 1, 2], metavar="S,S,...", help="orders and wrong labels")
    add("--images", type=int, default=600, metavar="N", help="of the mixed stream")
    add("--wrong", type=float, default=0.2, metavar="SHARE", help="of the labels in the mixed stream")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a JSON object a line."""
    args = build_parser().parse_args(argv)
    train, test = read_data(args.data, "train"), read_data(args.data, "test")
    for seed in args.seeds:
        rng = np.random.default_rng(seed)
        for record in (*new_classes(args, train, test, rng), *wrong_labels(args, train, test, rng)):
            print(json.dumps({"seed": seed, **record}), flush=True)
    return 0


def new_classes(
    args: argparse.Namespace, train: LabelledImages, test: LabelledImages, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Teach each new class to a fresh device, first ten images, then the rest."""
    records = []
    with tempfile.TemporaryDirectory() as folder:
        known = Device.open(args.bundle, Path(folder) / "none", args.runtime).classes
        old = chosen(test, [row for row, name in enumerate(test.labels) if name in known])
        for name in sorted(set(train.labels) - set(known)):
            device = Device.open(args.bundle, Path(folder) / name, args.runtime)
            before = device.evaluate(*old)["accuracy"]
            rows = rng.permutation([row for row, label in enumerate(train.labels) if label == name])
            tested = chosen(test, [row for row, label in enumerate(test.labels) if label in (*known, name)])
            record: dict[str, Any] = {"new_class": name, "old_before": before}
            for what, part in (("few", rows[:FEW]), ("all", rows[FEW:])):
                for image, label in zip(*chosen(train, part), strict=True):
                    device.teach(image, label, args.replay)
                result = device.evaluate(*tested)["per_class"]
                counts = [old.labels.count(label) for label in known]
                record[f"new_{what}"] = result[name]
                record[f"old_{what}"] = float(np.average([result[label] for label in known], weights=counts))
            records.append(record)
    return records


def wrong_labels(
    args: argparse.Namespace, train: LabelledImages, test: LabelledImages, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Teach the mixed stream with right and with partly wrong labels, one at a time and all at once."""
    rows = rng.permutation(len(train.labels))[: args.images]
    images, labels = chosen(train, rows)
    names = sorted(set(train.labels))
    swap = rng.random(len(labels)) < args.wrong
    others = [str(rng.choice([name for name in names if name != label])) for label in labels]
    noisy = [other if wrong else label for label, other, wrong in zip(labels, others, swap, strict=True)]
    record: dict[str, Any] = {"wrong": float(np.mean(swap)), "images": len(labels)}
    with tempfile.TemporaryDirectory() as folder:
        for what, given in (("right", labels), ("wrong", noisy)):
            device = Device.open(args.bundle, Path(folder) / f"{what}1", args.runtime)
            for image, label in zip(images, given, strict=True):
                device.teach(image, label, args.replay)
            record[f"one_by_one_{what}"] = device.evaluate(*test)["accuracy"]
            record[f"rolled_back_{what}"] = device.rolled_back
            device = Device.open(args.bundle, Path(folder) / f"{what}2", args.runtime)
            device.learn(images, given, args.replay)
            record[f"at_once_{what}"] = device.evaluate(*test)["accuracy"]
    return [record]


def chosen(data: LabelledImages, rows: Any) -> LabelledImages:
    """Return the images of some rows."""
    return LabelledImages([data.images[row] for row in rows], [data.labels[row] for row in rows])


if __name__ == "__main__":
    sys.exit(cli.run(main))
