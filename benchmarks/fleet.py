"""Devices that share what they were taught, beside one that was taught everything and each of them alone.

    python -m benchmarks.fleet --seeds 10,11,12 --json benchmarks/results/fleet_digits.json
    python -m benchmarks.fleet --data folder:PHOTOS --preset vit_tiny_96 --device-tasks 1 --json OUT
    python -m benchmarks.fleet --cameras host,dim,warm,noisy --calibrate 5 --json OUT

The host trains on the first tasks and the run becomes a bundle. The images of the last tasks' classes are parted among
--devices: at random, or so that each class comes to one device alone. Each device is taught its part and tells what it
learned; a fresh device takes all of it over, and is tested on all classes. With --cameras, the devices look through
these in turn, calibrate, and the test is through the host's. Runs and bundles are kept in --work and used again.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import results, runs
from benchmarks.common.cameras import CAMERAS, HOST
from benchmarks.common.stages import ROOT, StageError, Stages
from benchmarks.common.tables import markdown
from benchmarks.moved_camera import DETAIL, make_bundle
from benchmarks.unattended import Remembering
from firmware_host import Device
from keras_cbpnet import cli
from keras_cbpnet.data import Dataset, open_dataset
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import check_weights, get_preset

SPLITS = ("images", "classes")
MEASURED = ("one", "merged", "alone")
Images = tuple[list[NDArray[np.uint8]], list[str]]


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = runs.build_parser("fleet", __doc__, "digits", (10, 11, 12))
    add = parser.add_argument
    add("--devices", type=int, default=8, metavar="N", help="devices that share")
    add("--split", choices=SPLITS, default="images", help="what is parted among them")
    add("--cameras", type=runs.names_of("camera", CAMERAS), default=HOST, metavar="C,C,...", help="theirs, in turn")
    add("--calibrate", type=int, default=0, metavar="N", help="images of each old class that a device calibrates by")
    add("--min-images", type=int, default=5, metavar="N", help="images of a class from which a device tells of it")
    add("--noise", type=float, default=0.0, metavar="X", help="noise on what is told, as of `cbpnet fleet`")
    add("--tasks", type=int, default=5, metavar="T", help="tasks that the classes are parted into")
    add("--device-tasks", type=int, default=2, metavar="K", help="last tasks, left to the devices")
    add("--train", type=shlex.split, default="", metavar="OPTIONS", help="further options of the training, in one word")
    add("--runtime", default="auto", help="runtime of the devices")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every seed, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    if not 0 < args.device_tasks < args.tasks or args.devices < 1:
        raise UserError("--device-tasks must be from 1 to one fewer than --tasks, and --devices at least 1")
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
    names = "data preset per_class seeds tasks device_tasks devices split cameras calibrate min_images noise".split()
    record = {
        **results.provenance("benchmarks.fleet", given, commit),
        **{name: getattr(args, name) for name in names},
        **summary(records),
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {args.json}")
    print(render(record))
    return 0


def measure(seed: int, spec: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return a seed's record; accuracies over all test images, of classes that a device does not know too."""
    stages = Stages(3, f"seed {seed} ")
    bundle = make_bundle(seed, spec, args, stages)
    stages.announce(f"{args.devices} devices share what they are taught, through {', '.join(args.cameras)}")
    with tempfile.TemporaryDirectory() as folder:
        return {"seed": seed, **shared(bundle, Path(folder), open_dataset(spec, detail(bundle), seed), seed, args)}


def detail(bundle: Path) -> tuple[int, int]:
    """Return the size in which images are kept for cameras to look at."""
    with Device.open(bundle, runtime="numpy") as device:
        height, width = device.bundle.image_size
    return DETAIL * height, DETAIL * width


class Bench:
    """What devices see: an image, the same array, goes through the backbone once."""

    def __init__(self, bundle: Path, folder: Path, data: Dataset, seed: int, runtime: str) -> None:
        self._bundle, self._folder, self._data, self._seed, self._runtime = bundle, folder, data, seed, runtime
        self._taken: dict[tuple[str, str], list[NDArray[np.uint8]]] = {}
        self._backbone: Any = None

    def device(self, name: str) -> Device:
        """Return a device that has learned nothing yet."""
        device = Device.open(self._bundle, self._folder / name, self._runtime, seed=0)
        self._backbone = self._backbone or Remembering(device._backbone)
        device._backbone, device.camera.follows = self._backbone, False
        self._size = device.bundle.image_size
        return device

    def seen(self, part: str, rows: NDArray[np.int64], camera: str = HOST) -> Images:
        """Return images of some rows as a camera takes them, and their class names."""
        if (part, camera) not in self._taken:
            self._taken[part, camera] = list(CAMERAS[camera](self._data.stored(part), self._size, self._seed))
        labels = self._data.y_train if part == "train" else self._data.y_test
        taken = self._taken[part, camera]
        return [taken[row] for row in rows], [self._data.class_names[label] for label in labels[rows]]


def shared(bundle: Path, folder: Path, data: Dataset, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Teach one device everything and each of the others its part, and share; return what came of it."""
    bench = Bench(bundle, folder, data, seed, args.runtime)
    one = bench.device("one")
    old, test = one.classes, bench.seen("test", np.arange(len(data.y_test)))
    rows = np.flatnonzero(~np.isin(np.array(data.class_names)[data.y_train], old))
    known = [np.flatnonzero(data.y_train == data.class_names.index(name)) for name in old]
    one.learn(*bench.seen("train", rows))
    one.save()  # as the others do before they tell of it: a device that was saved has renewed its bank's metric
    deltas, alone = [], []
    for number, mine in enumerate(parted(rows, data.y_train, args.devices, args.split, seed)):
        device, camera = bench.device(f"device-{number}"), args.cameras[number % len(args.cameras)]
        if args.calibrate:
            rng = np.random.default_rng([seed, number])
            some = np.concatenate([rng.choice(each, min(args.calibrate, len(each)), replace=False) for each in known])
            device.camera.calibrate(*bench.seen("train", some, camera))
        if len(mine):
            device.learn(*bench.seen("train", mine, camera))
        deltas.append(device.knowledge.sharing(args.min_images, args.noise).take({}).own)
        alone.append(accuracy(device, bench.seen("test", np.arange(len(data.y_test)), camera)))
        device.close()
    told = {delta.device: delta for delta in deltas if delta is not None}
    fresh = bench.device("fresh")
    runs.say(f"seed {seed}: {fresh.knowledge.sharing().take(told).text}")
    return {
        "old": len(old),
        "new": len(set(data.class_names) - set(old)),
        "accuracy": {"one": accuracy(one, test), "merged": accuracy(fresh, test), "alone": statistics.fmean(alone)},
        "delta_bytes": statistics.fmean(len(delta.to_bytes()) for delta in told.values()),
        "images": sum(delta.images for delta in told.values()),
    }


def parted(
    rows: NDArray[np.int64], labels: NDArray[np.int64], devices: int, split: str, seed: int
) -> list[NDArray[np.int64]]:
    """Return the rows of each device: drawn at random, or each class's rows to one device."""
    rng = np.random.default_rng(seed)
    if split == "classes":
        names = rng.permutation(np.unique(labels[rows]))
        owner = {int(name): place % devices for place, name in enumerate(names)}
        return [rows[[owner[int(label)] == number for label in labels[rows]]] for number in range(devices)]
    return [np.sort(part) for part in np.array_split(rng.permutation(rows), devices)]


def accuracy(device: Device, test: Images) -> float:
    """Return the share of all test images that a device is right about; one of a class it does not know is wrong."""
    rows = [row for row, label in enumerate(test[1]) if label in device.classes]
    found = device.evaluate([test[0][row] for row in rows], [test[1][row] for row in rows])["accuracy"]
    return float(found) * len(rows) / len(test[1])


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the records, and mean and deviation (None for a single seed) of the accuracies."""
    found = [record["accuracy"] for record in records]
    return {
        "results": list(records),
        "mean": results.over_seeds(found, statistics.fmean),
        "std": results.over_seeds(found, lambda values: statistics.stdev(values) if len(values) > 1 else None),
    }


def render(record: dict[str, Any]) -> str:
    """Return the table of a result."""
    first = record["results"][0]
    cells = [runs.cell({"mean": record["mean"][what], "std": record["std"][what]}) for what in MEASURED]
    lost = max(one["accuracy"]["one"] - one["accuracy"]["merged"] for one in record["results"])
    kilobytes = statistics.fmean(one["delta_bytes"] for one in record["results"]) / 1e3
    rows = [
        ["devices", "parted by", "cameras", "calibration", "noise", "one that saw everything", "shared", "each alone",
         "shared behind one, at most", "kB a delta"],
        [str(record["devices"]), record["split"], ", ".join(record["cameras"]), str(record["calibrate"]),
         f"{record['noise']:g}", *cells, f"{100 * lost:.1f}", f"{kilobytes:.0f}"],
    ]  # fmt: skip
    return (
        f"{record['data']}, {record['preset']}, {runs.images_shown(record)}: {first['old']} old classes, "
        f"{first['new']} new ones; accuracy in % on all of them, seeds {', '.join(map(str, record['seeds']))}\n\n"
        f"{markdown(rows)}"
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
