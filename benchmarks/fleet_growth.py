"""Accuracy, time and bytes as devices and rounds grow, a server in their middle: devices are simulated.

    python -m benchmarks.fleet_growth --data npz:cifar100.npz --json benchmarks/results/fleet_growth.json

The host trains on the first tasks and the run becomes a bundle. Each device is taught some images of a few of the other
classes in each round, tells what it was taught, and takes over what all others were. One device is whole, and is
tested on all classes, also those that nobody taught yet. Runs, bundles and what each number of devices came to are kept
in --work and used again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT, StageError, Stages
from benchmarks.common.tables import markdown
from benchmarks.moved_camera import make_bundle
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError
from keras_cbpnet.fleet.inputs import Features, Settings, read_features
from keras_cbpnet.fleet.simulation import simulated
from keras_cbpnet.presets import check_weights, get_preset

DEVICES = (10, 30, 100, 300, 1000)
MOST_TEST = 300  # test images
WHOLE = 1  # devices that are tested: all know the same, but for rounding


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = runs.build_parser("fleet_growth", __doc__, None, (0,))
    add = parser.add_argument
    add("--devices", type=counts, default=list(DEVICES), metavar="N,N,...", help="numbers of devices")
    add("--rounds", type=int, default=3, metavar="N", help="rounds of lessons and a merge each")
    add("--images", type=int, default=10, metavar="N", help="images that a device is taught a round")
    add("--classes", type=int, default=2, metavar="N", help="classes that these are of")
    add("--tasks", type=int, default=5, metavar="T", help="tasks that the classes are parted into")
    add("--device-tasks", type=int, default=2, metavar="K", help="last tasks, left to the devices")
    add("--train", type=shlex.split, default="", metavar="OPTIONS", help="further options of the training, in one word")
    add("--runtime", default="auto", help="runtime of the devices")
    return parser


def counts(text: str) -> list[int]:
    """Return the numbers in `text`, such as `10,30`: of devices, rising."""
    found = [int(part) for part in text.split(",") if part.isdecimal()]
    if len(found) < len(text.split(",")) or found != sorted(set(found)) or found[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of rising numbers from 1 on, such as 10,30")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every number of devices, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    if not 0 < args.device_tasks < args.tasks:
        raise UserError("--device-tasks must be from 1 to one fewer than --tasks")
    size = get_preset(args.preset).backbone.image_size
    check_weights(get_preset(args.preset), args.weights)
    commit = results.commit(ROOT)
    spec = runs.subset(args.data, args.per_class, args.work, size) if args.per_class else args.data
    try:
        records = [one for seed in args.seeds for one in measure(seed, spec, args)]
    except StageError as failure:
        if str(failure):
            runs.say(f"error: {failure}")
        return failure.exit_code
    names = "data preset per_class seeds tasks device_tasks devices rounds images classes".split()
    record = {
        **results.provenance("benchmarks.fleet_growth", given, commit),
        **{name: getattr(args, name) for name in names},
        "results": records,
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {args.json}")
    print(render(record))
    return 0


def measure(seed: int, spec: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a record of each number of devices, with the records of its rounds."""
    stages = Stages(2 + len(args.devices), f"seed {seed} ")
    bundle = make_bundle(seed, spec, args, stages)
    kept = args.work / f"seed-{seed}" / f"shared-{args.rounds}-{args.images}-{args.classes}"
    kept.mkdir(parents=True, exist_ok=True)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        features: Features | None = None
        for number in args.devices:
            stages.announce(f"{number} devices share what they are taught")
            file = kept / f"{number}.json"
            if not file.exists():
                if features is None:
                    data = spec.removeprefix("folder:")
                    features = read_features(bundle, data, args.runtime, Path(folder), MOST_TEST, seed, runs.say)
                settings = Settings(number, args.rounds, args.images, args.classes, WHOLE, 5, seed, args.runtime)
                rounds = list(simulated(bundle, features, settings, Path(folder) / str(number), runs.say))
                results.write(file, {"seed": seed, "devices": number, "rounds": rounds})
            found.append(json.loads(file.read_text()))
    return found


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the power of the size as which values grow, between the two largest sizes."""
    return float(np.log(values[-1] / values[-2]) / np.log(sizes[-1] / sizes[-2]))


def render(record: dict[str, Any]) -> str:
    """Return the table of a result, means over seeds; growth is of the last round, between the two largest groups."""
    head = ["devices", "images told", "classes known", *(f"round {n + 1}" for n in range(record["rounds"])), "alone"]
    head += ["server, s a round", "s a device's merge", "kB up a device", "kB down a device"]
    rows, last = [head], {"server_s": [], "bytes": []}
    for number in record["devices"]:
        mine = [one["rounds"] for one in record["results"] if one["devices"] == number]
        end = {name: statistics.fmean(rounds[-1][name] for rounds in mine) for name in mine[0][-1]}
        accuracy = [statistics.fmean(rounds[n]["accuracy"] for rounds in mine) for n in range(record["rounds"])]
        alone = statistics.fmean(rounds[0]["alone"] for rounds in mine)
        last["server_s"].append(end["server_s"])
        last["bytes"].append(end["bytes_up"] + end["bytes_down"])
        rows.append(
            [
                f"{number:,}", f"{end['images']:,.0f}", f"{end['classes']:.0f}",
                *(f"{100 * share:.1f}" for share in (*accuracy, alone)),
                f"{end['server_s']:.1f}", f"{end['device_s']:.2f}",
                f"{end['bytes_up'] / number / 1e3:.0f}", f"{end['bytes_down'] / number / 1e3:.0f}",
            ]
        )  # fmt: skip
    text = (
        f"{record['data']}, {record['preset']}, {runs.images_shown(record)}; accuracy in % on all classes after each "
        f"round, and alone before the first; seeds {', '.join(map(str, record['seeds']))}; {record['images']} images a "
        f"device and round, of {record['classes']} new classes\n\n{markdown(rows)}"
    )
    if len(record["devices"]) > 1:
        powers = [exponent(record["devices"], last[name]) for name in ("server_s", "bytes")]
        text += (
            f"\n\nBetween the two largest groups the server's seconds grow as the devices to the power "
            f"{powers[0]:.2f}, all bytes as to the power {powers[1]:.2f}: 1 is linear."
        )
    return text


if __name__ == "__main__":
    sys.exit(cli.run(main))
