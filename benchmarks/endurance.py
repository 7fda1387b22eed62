"""A device that never restarts: memory and speed over many training steps and predictions in one process.

    python -m benchmarks.endurance BUNDLE --steps 100000 --predictions 100000

Random images of all classes known, labels one at a time, saved every --save-every steps into a temporary folder. A line
for each tenth of the way: resident memory, milliseconds a step and a prediction; then growth and slow-down, last tenth
against second (the first warms up). Linux only, where memory can be read.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host import Device
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

PARTS = 10


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.endurance", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="the bundle that learns")
    add("--steps", type=int, default=100_000, metavar="N", help="training steps, at least")
    add("--predictions", type=int, default=100_000, metavar="N", help="predictions")
    add("--save-every", type=int, default=1000, metavar="N", help="training steps between two saves")
    add("--replay", default="buffer:500", help="statistics, buffer:N or none")
    add("--runtime", default="auto", help="what computes")
    add("--seed", type=int, default=0, help="of the images")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Live through it; print a JSON object a tenth and one of the whole."""
    args = build_parser().parse_args(argv)
    for name in ("steps", "predictions"):
        if getattr(args, name) < PARTS:
            raise UserError(f"--{name} {getattr(args, name)} is too few; use {PARTS} or more")
    with tempfile.TemporaryDirectory() as folder, Device.open(args.bundle, folder, args.runtime) as device:
        records = []
        for record in tenths(device, args):
            print(json.dumps(record), flush=True)
            records.append(record)
        second, last = records[1], records[-1]
        whole = {
            "memory_growth_mb": last["memory_mb"] - second["memory_mb"],
            "train_slow_down": last["train_ms"] / second["train_ms"],
            "predict_slow_down": last["predict_ms"] / second["predict_ms"],
            "steps": sum(record["steps"] for record in records),
            "predictions": PARTS * (args.predictions // PARTS),
            "rolled_back": device.rolled_back,
            **device.written,
        }
        print(json.dumps(whole))
    return 0


def tenths(device: Device, args: argparse.Namespace) -> Any:
    """Yield what each tenth of the way took."""
    rng = np.random.default_rng(args.seed)
    names = device.classes or ("a", "b")
    base = rng.integers(40, 216, (len(names), *device.bundle.image_size, 3))
    unsaved = 0

    def image() -> tuple[Any, str]:
        slot = int(rng.integers(len(names)))
        return np.clip(base[slot] + rng.integers(-40, 41, base[slot].shape), 0, 255).astype(np.uint8), names[slot]

    for part in range(1, PARTS + 1):
        steps, spent = 0, 0.0
        while steps < args.steps // PARTS:
            shown, label = image()
            started = time.perf_counter()
            made = device.teach(shown, label, args.replay)["steps"]
            spent += time.perf_counter() - started
            steps, unsaved = steps + made, unsaved + made
            if unsaved >= args.save_every:
                device.save()
                unsaved = 0
        predicted = 0.0
        for _ in range(args.predictions // PARTS):
            predicted += device.predict(image()[0]).latency_ms
        yield {
            "part": part,
            "steps": steps,
            "memory_mb": resident_mb(),
            "train_ms": spent / steps * 1e3,
            "predict_ms": predicted / (args.predictions // PARTS),
        }


def resident_mb() -> float:
    """Return the resident size of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024  # KiB


if __name__ == "__main__":
    sys.exit(cli.run(main))
