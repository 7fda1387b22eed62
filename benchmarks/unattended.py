"""What learning without supervision costs: ten images of a new class, and a stream of labels that are partly wrong.

    python -m benchmarks.unattended BUNDLE... --data digits --seeds 0,1,2,3,4 --json OUT

Classes that a bundle does not know are the new ones. First each new class on its own: accuracy of it and of the old
classes after ten labels, one at a time, and after all of them. Then all classes mixed, with and without labels replaced
by another class's: accuracy over all test images. Nothing is saved; an image goes through a bundle's backbone once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results
from benchmarks.common.stages import ROOT
from firmware_host import Device
from firmware_host.images.labelled import LabelledImages
from firmware_host.images.loading import ImageLike
from keras_cbpnet import cli
from keras_cbpnet.data import load_dataset

FEW = 10
EARLY = (1, 2, 4)  # images of a new class after which there is a look as well
REACHED, COST, WRONG_COST = 0.8, 0.01, 0.05  # what is asked of new classes, of old ones, and under wrong labels
ROUNDING = 1e-9


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.unattended", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("bundles", metavar="BUNDLE", nargs="+", help="bundles that learn, one after another")
    add("--data", required=True, help="labelled images, as --dataset of the trainer: digits, npz:PATH, ...")
    add("--runtime", default="auto", help="runtime of the device")
    add("--replay", default="statistics", help="replay: statistics, buffer:N or none")
    add("--seeds", type=cli.seed_list, default=[0, 1, 2], metavar="S,S,...", help="seeds of orders and wrong labels")
    add("--classes", type=int, default=0, metavar="N", help="new classes per seed, drawn at random; 0: all")
    add("--images", type=int, default=600, metavar="N", help="images of the mixed stream")
    add("--wrong", type=float, default=0.2, metavar="SHARE", help="share of wrong labels in the mixed stream")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print one JSON object per line."""
    args = build_parser().parse_args(argv)
    arguments = list(sys.argv[1:] if argv is None else argv)
    commit = results.commit(ROOT)
    records: dict[str, list[dict[str, Any]]] = {"new_classes": [], "wrong_labels": []}
    for path in args.bundles:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(path, Path(folder), args)
            for seed in args.seeds:
                rng = np.random.default_rng(seed)
                for what, measure in (("new_classes", new_classes), ("wrong_labels", wrong_labels)):
                    for record in measure(bench, rng):
                        records[what].append({"bundle": Path(path).name, "seed": seed, **record})
                        print(json.dumps(records[what][-1]), flush=True)
    whole = summary(records)
    print(json.dumps(whole))
    if args.json:
        what = results.provenance("benchmarks.unattended", arguments, commit)
        results.write(args.json, {**what, "data": args.data, "seeds": args.seeds, "summary": whole, **records})
    return 0


class Bench:
    """A bundle, the images for it, and devices that start from it."""

    def __init__(self, path: str, folder: Path, args: argparse.Namespace) -> None:
        self.args = args
        self._path, self._folder = path, folder
        first = Device.open(path, folder / "none", args.runtime)
        self._backbone = Remembering(first._backbone)
        self.known = first.classes
        data = load_dataset(args.data, first.bundle.image_size)
        names = data.class_names
        self.train = LabelledImages(list(data.x_train), [names[label] for label in data.y_train])
        self.test = LabelledImages(list(data.x_test), [names[label] for label in data.y_test])

    def device(self, name: str) -> Device:
        """Return a device that has learned nothing yet."""
        device = Device.open(self._path, self._folder / name, self.args.runtime)
        device._backbone = self._backbone  # type: ignore[assignment]
        return device


class Remembering:
    """A backbone that computes the feature of an image, the same array, once."""

    def __init__(self, backbone: Any) -> None:
        self._backbone = backbone
        self._features: dict[int, Any] = {}
        self.dtype, self.dequantize = backbone.dtype, backbone.dequantize

    def __call__(self, image: np.ndarray) -> Any:
        """Return the Feature of `image`, which must stay alive."""
        key = id(image)
        if key not in self._features:
            self._features[key] = self._backbone(image)
        return self._features[key]


def new_classes(bench: Bench, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Teach each new class to a fresh device, with a look at all after some images, after ten and after the rest."""
    records = []
    train, test, known = bench.train, bench.test, bench.known
    old = chosen(test, [row for row, name in enumerate(test.labels) if name in known])
    counts = [old[1].count(label) for label in known]
    before = bench.device("before").evaluate(*old)["accuracy"]
    for name in rng.permutation(sorted(set(train.labels) - set(known)))[: bench.args.classes or None]:
        device = bench.device(str(name))
        rows = rng.permutation([row for row, label in enumerate(train.labels) if label == name])
        tested = chosen(test, [row for row, label in enumerate(test.labels) if label in (*known, name)])
        record: dict[str, Any] = {"new_class": str(name), "old_before": before}
        taught = 0
        for what, until in (*((str(n), n) for n in EARLY), ("few", FEW), ("all", len(rows))):
            for image, label in zip(*chosen(train, rows[taught:until]), strict=True):
                device.teach(image, label, bench.args.replay)
            taught = until
            result = device.evaluate(*tested)["per_class"]
            record[f"new_{what}"] = result[name]
            record[f"old_{what}"] = float(np.average([result[label] for label in known], weights=counts))
        records.append(record)
    return records


def wrong_labels(bench: Bench, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Teach the mixed stream with right and with partly wrong labels, one at a time and all at once."""
    args, train = bench.args, bench.train
    images, labels = chosen(train, rng.permutation(len(train.labels))[: args.images])
    names = sorted(set(train.labels))
    swap = rng.random(len(labels)) < args.wrong
    others = [str(rng.choice([name for name in names if name != label])) for label in labels]
    noisy = [other if wrong else label for label, other, wrong in zip(labels, others, swap, strict=True)]
    record: dict[str, Any] = {"wrong": float(np.mean(swap)), "images": len(labels)}
    for what, given in (("right", labels), ("wrong", noisy)):
        device = bench.device(f"{what}1")
        for image, label in zip(images, given, strict=True):
            device.teach(image, label, args.replay)
        record[f"one_by_one_{what}"] = accuracy(device, bench.test)
        record[f"rolled_back_{what}"] = device.rolled_back
        device = bench.device(f"{what}2")
        device.learn(images, given, args.replay)
        record[f"at_once_{what}"] = accuracy(device, bench.test)
    return [record]


def accuracy(device: Device, test: LabelledImages) -> float:
    """Return the share of `test` that the device is right about; a class that never came to it is always wrong."""
    known = [row for row, label in enumerate(test.labels) if label in device.classes]
    return float(device.evaluate(*chosen(test, known))["accuracy"]) * len(known) / len(test.labels)


def chosen(data: LabelledImages, rows: Any) -> tuple[list[ImageLike], list[str]]:
    """Return the images of some rows and their labels."""
    return [data.images[row] for row in rows], [data.labels[row] for row in rows]


def summary(records: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return means over all cases, and how many hold what is asked."""
    new, wrong = records["new_classes"], records["wrong_labels"]
    reached = [record["new_few"] / max(record["new_all"], 1e-9) for record in new]
    cost = [record["old_before"] - record["old_few"] for record in new]
    whole: dict[str, Any] = {
        "cases": len(new),
        **{key: statistics.fmean(record[key] for record in new) for key in ("new_few", "new_all", "old_before")},
        "old_few": statistics.fmean(record["old_few"] for record in new),
        "reached": statistics.fmean(reached),
        "cases_reached": sum(share >= REACHED - ROUNDING for share in reached),
        "cost": statistics.fmean(cost),
        "largest_cost": max(cost),
        "cases_cost": sum(points <= COST + ROUNDING for points in cost),
    }
    for kind in ("new", "old"):
        whole[f"{kind}_early"] = [statistics.fmean(record[f"{kind}_{n}"] for record in new) for n in EARLY]
    for way in ("one_by_one", "at_once"):
        lost = [record[f"{way}_right"] - record[f"{way}_wrong"] for record in wrong]
        whole[f"{way}_right"] = statistics.fmean(record[f"{way}_right"] for record in wrong)
        whole[f"{way}_wrong"] = statistics.fmean(record[f"{way}_wrong"] for record in wrong)
        whole[f"{way}_lost"], whole[f"{way}_most_lost"] = statistics.fmean(lost), max(lost)
        whole[f"{way}_cases"] = sum(points <= WRONG_COST + ROUNDING for points in lost)
    return whole


def render(result: dict[str, Any]) -> str:
    """Return the tables of one result file."""
    whole, wrong = result["summary"], result["wrong_labels"]
    cases, given = whole["cases"], 100 * statistics.fmean(record["wrong"] for record in wrong)
    cost, largest = 100 * whole["cost"], 100 * whole["largest_cost"]
    lines = [
        f"{result['data']}: {cases} cases of a new class, one label at a time, accuracy in %:",
        "",
        "| | before | 10 images | all images | asked | mean | holds in |",
        "|---|---|---|---|---|---|---|",
        f"| new class | | {100 * whole['new_few']:.1f} | {100 * whole['new_all']:.1f} | "
        f"10 images reach {100 * REACHED:g} % of all | {100 * whole['reached']:.0f} % | "
        f"{whole['cases_reached']} of {cases} |",
        f"| old classes | {100 * whole['old_before']:.1f} | {100 * whole['old_few']:.1f} | | "
        f"at most {100 * COST:g} point lost | {cost:+.1f} (worst {largest:+.1f}) | {whole['cases_cost']} of {cases} |",
        "",
        *early(whole),
        f"A stream of {wrong[0]['images']} images of all classes, {given:.0f} % of the labels wrong, accuracy in %:",
        "",
        f"| | right labels | partly wrong | lost (asked: at most {100 * WRONG_COST:g}) | most lost | holds in |",
        "|---|---|---|---|---|---|",
    ]
    for way, name in (("one_by_one", "one at a time"), ("at_once", "all at once")):
        right, partly, lost, most = (100 * whole[f"{way}_{key}"] for key in ("right", "wrong", "lost", "most_lost"))
        held = f"{whole[f'{way}_cases']} of {len(wrong)}"
        lines.append(f"| {name} | {right:.1f} | {partly:.1f} | {lost:.1f} | {most:.1f} | {held} |")
    return "\n".join(lines)


def early(whole: dict[str, Any]) -> list[str]:
    """Return the lines about the first images of a new class; none for a result of before there were such looks."""
    if "new_early" not in whole:
        return []
    listed = [", ".join(f"{100 * value:.1f}" for value in whole[f"{kind}_early"]) for kind in ("new", "old")]
    after = ", ".join(map(str, EARLY))
    return [f"After {after} images the new class has {listed[0]} and the old classes {listed[1]}.", ""]


if __name__ == "__main__":
    sys.exit(cli.run(main))
