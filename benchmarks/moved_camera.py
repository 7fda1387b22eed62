"""What a device camera that differs from the host's photos costs: old classes from the host, new ones from the device.

    python -m benchmarks.moved_camera --seeds 10,11,12 --json benchmarks/results/moved_camera.json
    python -m benchmarks.moved_camera --data folder:PHOTOS --preset vit_tiny_96 --seeds 10,11,12 --json OUT

The host trains on the first tasks with the images as they are, and the run becomes a bundle. Then, for every simulated
camera (benchmarks/common/cameras.py), a fresh device is taught the last tasks' classes with that camera's images, and
tested through it: accuracy of the old classes before and after, of the new ones and of all after. The camera `host` is
the host's own. Runs and bundles are kept in --work and used again.
"""

from __future__ import annotations

import argparse
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
MEASURED = ("old_before", "old", "new", "all")
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
    add("--calibrate", type=int, default=0, metavar="N", help="images of each old class that a device is calibrated by")
    add("--unlabelled", action="store_true", help="calibration without labels")
    add("--runtime", default="auto", help="runtime of the device")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every camera with every seed, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    if not 0 < args.device_tasks < args.tasks:
        raise UserError(f"--device-tasks is {args.device_tasks}; use 1 to {args.tasks - 1}, one fewer than --tasks")
    if args.calibrate < 0:
        raise UserError(f"--calibrate is {args.calibrate}; use 1 or more, or 0 for none")
    size = get_preset(args.preset).backbone.image_size
    check_weights(get_preset(args.preset), args.weights)
    commit = results.commit(ROOT)
    spec = runs.subset(args.data, *args.per_class, args.work, DETAIL * size) if args.per_class else args.data
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
        **{name: getattr(args, name) for name in ("one_by_one", "calibrate", "unlabelled")},
        "held_out": [name for name in args.cameras if CAMERAS[name].held_out],
        **summary(records),
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {args.json}")
    print(render(record))
    return 0


def measure(seed: int, spec: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return a seed's record: the classes, and for each camera what `through` measures."""
    stages = Stages(3, f"seed {seed} ")
    bundle = make_bundle(seed, spec, args, stages)
    with Device.open(bundle, runtime=args.runtime) as device:
        old, size = device.classes, device.bundle.image_size
    data = open_dataset(spec, (DETAIL * size[0], DETAIL * size[1]), seed)
    stages.announce(f"teaching a device through each of {len(args.cameras)} cameras")
    found = {}
    for name in args.cameras:
        found[name] = through(images_of(data, CAMERAS[name], size, old, seed, args.calibrate), bundle, args)
        stages.say(", ".join([name, *(f"{what} {100 * found[name][what]:.1f}" for what in MEASURED)]))
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
        some: training images of the old classes, for calibration.
        lessons: those of the new classes.
        test: test images of all classes.
    """

    old: tuple[str, ...]
    some: tuple[list[NDArray[np.uint8]], list[str]]
    lessons: tuple[list[NDArray[np.uint8]], list[str]]
    test: tuple[list[NDArray[np.uint8]], list[str]]


def images_of(
    data: Dataset, camera: Camera, size: tuple[int, int], old: Sequence[str], seed: int, few: int = 0
) -> Seen:
    """Return what a device with `camera`, whose network takes images of `size`, sees of the data; `few` as `some`."""
    known, rng = np.isin(data.class_names, old), np.random.default_rng(seed)
    some = [rng.permutation(np.flatnonzero(data.y_train == label))[:few] for label in np.flatnonzero(known)]
    taken = []
    for number, (part, labels, rows) in enumerate(
        (
            ("train", data.y_train, np.concatenate(some)),
            ("train", data.y_train, np.flatnonzero(~known[data.y_train])),
            ("test", data.y_test, np.arange(len(data.y_test))),
        )
    ):
        pictures = camera(data.stored(part)[rows], size, 3 * seed + number)
        taken.append((list(pictures), [data.class_names[label] for label in labels[rows]]))
    return Seen(tuple(old), *taken)


def through(seen: Seen, bundle: Path, args: argparse.Namespace) -> dict[str, float]:
    """Teach a fresh device what a camera sees; return the accuracy on old classes before, on old, new and all after."""
    images, labels = seen.test
    rows = [row for row, label in enumerate(labels) if label in seen.old]
    with tempfile.TemporaryDirectory() as folder, Device.open(bundle, folder, args.runtime) as device:
        device._backbone = Remembering(device._backbone)  # type: ignore[assignment]
        if args.calibrate:
            device.camera.calibrate(seen.some[0], None if args.unlabelled else seen.some[1])
        before = device.evaluate([images[row] for row in rows], [labels[row] for row in rows])
        if args.one_by_one:
            order = np.random.default_rng(0).permutation(len(seen.lessons[1]))
            for row in order:
                device.teach(seen.lessons[0][row], seen.lessons[1][row])
        else:
            device.learn(*seen.lessons)
        after = device.evaluate(images, labels)
    return {"old_before": before["accuracy"], **parted(after["per_class"], labels, seen.old), "all": after["accuracy"]}


def parted(per_class: dict[str, float], labels: Sequence[str], old: Sequence[str]) -> dict[str, float]:
    """Return the accuracy over the images of old and of new classes, from that by class and the test labels."""
    parts = {"old": list(old), "new": [name for name in per_class if name not in old]}
    counts = {part: [labels.count(name) for name in names] for part, names in parts.items()}
    return {
        part: sum(per_class[name] * n for name, n in zip(names, counts[part], strict=True)) / sum(counts[part])
        for part, names in parts.items()
    }


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the records, and mean and standard deviation (None for a single seed) over them by camera."""
    found = [record["cameras"] for record in records]
    return {
        "results": list(records),
        "mean": results.over_seeds(found, statistics.fmean),
        "std": results.over_seeds(found, lambda values: statistics.stdev(values) if len(values) > 1 else None),
    }


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    rows = [["camera", "old classes before", "old classes after", "new classes after", "all classes after"]]
    for name, mean in record["mean"].items():
        std = record["std"][name]
        cells = [runs.cell({"mean": mean[what], "std": std[what]}) for what in MEASURED]
        rows.append([name + " (held out)" * (name in record["held_out"]), *cells])
    first, seeds = record["results"][0], ", ".join(map(str, record["seeds"]))
    how = "one at a time" if record["one_by_one"] else "at once"
    if few := record["calibrate"]:
        how += f", after calibration by {few} {'unlabelled ' * record['unlabelled']}images of each old one,"
    return (
        f"{record['data']}, {record['preset']}, {runs.images_shown(record)}: {len(first['old'])} old classes, "
        f"{len(first['new'])} new ones taught {how} with the device's camera; accuracy in % through that camera, "
        f"seeds {seeds}\n\n{markdown(rows)}"
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
