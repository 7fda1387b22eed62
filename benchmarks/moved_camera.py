"""What a device camera that differs from the host's photos costs: old classes from the host, new ones from the device.

    python -m benchmarks.moved_camera --seeds 10,11,12 --json benchmarks/results/moved_camera.json
    python -m benchmarks.moved_camera --data folder:PHOTOS --preset vit_tiny_96 --seeds 10,11,12 --json OUT

The host trains on the first tasks with the images as they are, and the run becomes a bundle. Then, for every simulated
camera (benchmarks/common/cameras.py), a fresh device is taught the last tasks' classes with that camera's images, and
tested through it: accuracy of the old classes before and after, of the new ones and of all after, and which share of
these images, all of known classes, is called unknown (5 % are asked for), and of those of new ones before. The camera
`host` is the host's own. Runs and bundles are kept in --work and used again.
"""

from __future__ import annotations

import argparse
import re
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import results, runs
from benchmarks.common.cameras import CAMERAS, Camera
from benchmarks.common.stages import ROOT, StageError, Stages
from benchmarks.common.tables import markdown
from benchmarks.unattended import Remembering
from firmware_host import Device
from keras_cbpnet import cli
from keras_cbpnet.data import Dataset, open_dataset
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import check_weights, get_preset

DETAIL = 2  # pixels that cameras see along a side, in those of the network, where the data have so many
MEASURED = {  # and the head of its column
    "old_before": "old classes before",
    "old": "old classes after",
    "new": "new classes after",
    "all": "all after",
    "rejected_before": "called unknown before",
    "noticed": "of new classes before",
    "rejected": "called unknown after",
}
OPTIONS = "options.txt"  # those of the training, beside the run and the bundle

# Dimensions: N images, h x w pixels as stored, H x W of the network.


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = runs.build_parser("moved_camera", __doc__, "digits", (10, 11, 12))
    add = parser.add_argument
    known = ",".join(CAMERAS)
    add("--cameras", type=runs.names_of("camera", CAMERAS), default=known, metavar="C,C,...", help="cameras to try")
    add("--tasks", type=int, default=5, metavar="T", help="tasks that the classes are parted into")
    add("--device-tasks", type=int, default=2, metavar="K", help="last tasks, left to the device")
    add("--train", type=shlex.split, default="", metavar="OPTIONS", help="further options of the training, in one word")
    add("--one-by-one", action="store_true", help="lessons of one image at a time, as `learn --one-by-one`")
    add(
        "--calibrate",
        type=calibrations,
        default="0",
        metavar="N,N,...",
        help="images of each old class to calibrate by, one measurement for each number; 0: none; 5u: five unlabelled; "
        "15p: fifteen that are predicted only",
    )
    add("--runtime", default="auto", help="runtime of the device")
    return parser


def calibrations(text: str) -> list[str]:
    """Return the calibrations in `0,1,5u,15p`."""
    found = text.split(",")
    if not all(re.fullmatch("[0-9]+|[1-9][0-9]*[up]", one) for one in found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers of images, such as 0,1,5u,15p")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every camera with every seed, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    if not 0 < args.device_tasks < args.tasks:
        raise UserError(f"--device-tasks is {args.device_tasks}; use 1 to {args.tasks - 1}, one fewer than --tasks")
    size = get_preset(args.preset).backbone.image_size
    check_weights(get_preset(args.preset), args.weights)
    commit = results.commit(ROOT)
    spec = runs.subset(args.data, args.per_class, args.work, DETAIL * size) if args.per_class else args.data
    try:
        records = [measure(seed, spec, args) for seed in args.seeds]
    except StageError as failure:
        if str(failure):
            runs.say(f"error: {failure}")
        return failure.exit_code
    record = {
        **results.provenance("benchmarks.moved_camera", given, commit),
        **{name: getattr(args, name) for name in ("data", "preset", "per_class", "seeds", "tasks", "device_tasks")},
        "train": shlex.join(args.train),
        "one_by_one": args.one_by_one,
        "held_out": [name for name in args.cameras if CAMERAS[name].held_out],
        **summary(records),
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {args.json}")
    print(render(record))
    return 0


def measure(seed: int, spec: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return a seed's record: the classes, and for each camera and calibration what `taught` measures."""
    stages = Stages(3, f"seed {seed} ")
    bundle = make_bundle(seed, spec, args, stages)
    with Device.open(bundle, runtime=args.runtime) as device:
        old, size = device.classes, device.bundle.image_size
    data = open_dataset(spec, (DETAIL * size[0], DETAIL * size[1]), seed)
    stages.announce(f"teaching a device through each of {len(args.cameras)} cameras")
    found = {}
    for name in args.cameras:
        found[name] = through(images_of(data, CAMERAS[name], size, old, seed, args.calibrate), bundle, args)
        for calibration, numbers in found[name].items():
            told = (f"{what} {100 * numbers[what]:.1f}" for what in MEASURED)
            stages.say(", ".join([f"{name}, calibration {calibration}", *told]))
    return {"seed": seed, "old": list(old), "new": sorted(set(data.class_names) - set(old)), "cameras": found}


def make_bundle(seed: int, spec: str, args: argparse.Namespace, stages: Stages) -> Path:
    """Return the seed's bundle in --work, made if it is not there.

    Raises:
        UserError: what is there was trained with other options.
    """
    folder = (args.work / f"seed-{seed}").resolve()
    run, bundle, file = folder / "run", folder / "bundle", folder / OPTIONS
    numbers = {"tasks": args.tasks, "device-tasks": args.device_tasks, "seed": seed}
    options = ["--dataset", spec, "--preset", args.preset, "--replay", "statistics"]
    options += [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    options += ["--weights", str(args.weights)] if args.weights else []
    words = shlex.join([*options, *args.train])
    if file.exists() and file.read_text() != words:
        raise UserError(f"{folder} was trained with other options ({file.read_text()}); choose another --work")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(words)
    stages.announce(f"training the first {args.tasks - args.device_tasks} of {args.tasks} tasks of {spec}")
    if not (run / "metrics.json").exists():
        stages.run("train", "-m", "keras_cbpnet.train", *options, *args.train, "--output", run, "--json")
    stages.announce("converting the run into a bundle and verifying it")
    if not (bundle / "manifest.json").exists():
        stages.run("convert", "tflite/convert.py", run, "--output", bundle, "--overwrite", "--json")
    return bundle


class Seen(NamedTuple):
    """Images as a camera takes them, uint8 [H, W, 3] each, and their class names.

    Attributes:
        old: classes that the host knows.
        some: images of the old classes that the host never saw, for each calibration.
        lessons: training images of the new classes.
        test: test images of all classes, without those of `some`.
    """

    old: tuple[str, ...]
    some: dict[str, tuple[list[NDArray[np.uint8]], list[str]]]
    lessons: tuple[list[NDArray[np.uint8]], list[str]]
    test: tuple[list[NDArray[np.uint8]], list[str]]


def images_of(
    data: Dataset,
    camera: Camera,
    size: tuple[int, int],
    old: Sequence[str],
    seed: int,
    calibrated: Sequence[str] = ("0",),
) -> Seen:
    """Return what a device with `camera`, whose network takes images of `size`, sees of the data.

    `calibrated` are the calibrations wanted; one of more images has those of one of fewer too.
    """
    known, rng = np.isin(data.class_names, old), np.random.default_rng(seed)
    counts = {name: int(name.rstrip("up")) for name in calibrated}
    orders = [rng.permutation(np.flatnonzero(data.y_test == label)) for label in np.flatnonzero(known)]
    most, fewest = max(counts.values()), min(map(len, orders))
    if most >= fewest:
        raise UserError(
            f"--calibrate takes {most} test images of each old class, one of which has {fewest}; take fewer"
        )
    some = [row for order in orders for row in order[:most]]
    taken = []
    for number, (part, labels, rows) in enumerate(
        (
            ("test", data.y_test, np.array(some, int)),
            ("train", data.y_train, np.flatnonzero(~known[data.y_train])),
            ("test", data.y_test, np.setdiff1d(np.arange(len(data.y_test)), some)),
        )
    ):
        pictures = camera(data.stored(part)[rows], size, 3 * seed + number)
        taken.append((list(pictures), [data.class_names[label] for label in labels[rows]]))
    place = {row: index for index, row in enumerate(some)}
    chosen = {name: [place[row] for order in orders for row in order[:count]] for name, count in counts.items()}
    few = {name: ([taken[0][0][i] for i in rows], [taken[0][1][i] for i in rows]) for name, rows in chosen.items()}
    return Seen(tuple(old), few, *taken[1:])


def through(seen: Seen, bundle: Path, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return what `taught` measures of fresh devices, by calibration; an image goes through the backbone once."""
    found, backbone = {}, None
    for name in args.calibrate:
        with tempfile.TemporaryDirectory() as folder, Device.open(bundle, folder, args.runtime) as device:
            backbone = backbone or Remembering(device._backbone)
            device._backbone = backbone  # type: ignore[assignment]
            images, labels = seen.some[name]
            if name.endswith("p"):
                device.predict_many([images[row] for row in np.random.default_rng(0).permutation(len(images))])
            elif images:
                device.camera.calibrate(images, None if name.endswith("u") else labels)
            found[name] = taught(device, seen, args.one_by_one)
    return found


def taught(device: Device, seen: Seen, one_by_one: bool) -> dict[str, float]:
    """Teach a device the lessons; return the accuracy on old classes before, and on old, new and all after.

    Beside it, the share of images that the device calls unknown: of old classes and of new ones before, of all after.
    """
    images, labels = seen.test
    rows = [row for row, label in enumerate(labels) if label in seen.old]
    before, rejected_before = evaluated(device, [images[row] for row in rows], [labels[row] for row in rows])
    noticed = float(np.mean([not device.look(images[row]).known for row in set(range(len(labels))) - set(rows)]))
    if one_by_one:
        for row in np.random.default_rng(0).permutation(len(seen.lessons[1])):
            device.teach(seen.lessons[0][row], seen.lessons[1][row])
    else:
        device.learn(*seen.lessons)
    after, rejected = evaluated(device, images, labels)
    parts = parted(after["per_class"], labels, seen.old)
    shares = {"rejected_before": rejected_before, "noticed": noticed, "rejected": rejected}
    return {"old_before": before["accuracy"], **parts, "all": after["accuracy"], **shares}


def evaluated(
    device: Device, images: Sequence[NDArray[np.uint8]], labels: Sequence[str]
) -> tuple[dict[str, Any], float]:
    """Return what `Device.evaluate` does, and the share of the images that the device calls unknown."""
    known: list[bool] = []
    found = device.evaluate(images, labels, seen=lambda image, label, said: known.append(said.known))
    return found, 1.0 - sum(known) / len(known)


def parted(per_class: dict[str, float], labels: Sequence[str], old: Sequence[str]) -> dict[str, float]:
    """Return the accuracy over the images of old and of new classes, from that by class and the test labels."""
    parts = {"old": list(old), "new": [name for name in per_class if name not in old]}
    counts = {part: [labels.count(name) for name in names] for part, names in parts.items()}
    return {
        part: sum(per_class[name] * n for name, n in zip(names, counts[part], strict=True)) / sum(counts[part])
        for part, names in parts.items()
    }


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the records, and mean and deviation (None for a single seed) over them, by camera and calibration."""
    found = [record["cameras"] for record in records]
    return {
        "results": list(records),
        "mean": results.over_seeds(found, statistics.fmean),
        "std": results.over_seeds(found, lambda values: statistics.stdev(values) if len(values) > 1 else None),
    }


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    first_means = next(iter(next(iter(record["mean"].values())).values()))
    measured = [what for what in MEASURED if what in first_means]  # an older file has no shares called unknown
    rows = [["camera", "calibration", *(MEASURED[what] for what in measured)]]
    for name, by_calibration in record["mean"].items():
        for calibration, mean in by_calibration.items():
            std = record["std"][name][calibration]
            cells = [runs.cell({"mean": mean[what], "std": std[what]}) for what in measured]
            rows.append([name + " (held out)" * (name in record["held_out"]), calibration, *cells])
    first, seeds = record["results"][0], ", ".join(map(str, record["seeds"]))
    how = "one at a time" if record["one_by_one"] else "at once"
    return (
        f"{record['data']}, {record['preset']}, {runs.images_shown(record)}: {len(first['old'])} old classes, "
        f"{len(first['new'])} new ones taught {how} with the device's camera; accuracy in % through that camera, seeds "
        f"{seeds}; calibration by so many images of each old class (u: unlabelled, p: predictions alone)\n\n"
        f"{markdown(rows)}"
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
