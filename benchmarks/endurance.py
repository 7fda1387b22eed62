"""A device that never restarts: memory and speed over many training steps and predictions in one process.

    python -m benchmarks.endurance BUNDLE --json benchmarks/results/endurance.json

Images of all classes known, drawn at random, in rounds of 1,000 steps and 1,000 predictions: a part of the labels one
at a time, the rest 32 at once, and a save at the end. Memory is the resident size after each round, once freed memory
is given back; growth is relative to the first round. At the end new processes start from the saved state, and make
the same calls as the old one in turn with it: the slow-down is the ratio of their median calls, in processor time,
which other programs disturb alike in both. Linux only, where memory can be read.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results
from benchmarks.common.stages import ROOT
from firmware_host import Device
from firmware_host.process_memory import give_back_freed, resident_memory_mb
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

ROUND = 1000  # training steps and predictions
ONE_BY_ONE = 50  # labels of a round that come one at a time
AT_ONCE, EPOCHS = 32, 50
COMPARED = {"teach": 200, "learn": 20, "predict": 2000}  # calls in turn with a new process
PROCESSES = 3
FRESH = "--new-process"
MIB, SLOWER = 1.0, 1.05  # what is allowed


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.endurance", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="bundle that learns")
    add(
        "--rounds",
        type=int,
        default=100,
        metavar="N",
        help=f"rounds of {ROUND:,} training steps and {ROUND:,} predictions",
    )
    add("--replay", default="buffer:500", help="replay: statistics, buffer:N or none")
    add("--runtime", default="auto", help="runtime of the device")
    add("--seed", type=int, default=0, help="seed of the images")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run all rounds; print a JSON object per round and one for the whole."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == [FRESH]:
        return serve(*arguments[1:])
    args = build_parser().parse_args(argv)
    if args.rounds < 4:
        raise UserError(f"--rounds {args.rounds} is too few; use 4 or more")
    commit = results.commit(ROOT)
    with tempfile.TemporaryDirectory() as folder, Device.open(args.bundle, folder, args.runtime) as device:
        rounds = []
        calls = Calls(device, World(device, args.seed), args.replay)
        for _ in range(args.rounds):
            rounds.append(live(device, calls))
            print(json.dumps(rounds[-1]), flush=True)
        lived = {"rolled_back": device.rolled_back, **device.written, "runtime": device.runtime}
        ratios = [slow_down(calls, device, args, COMPARED) for _ in range(PROCESSES)]
        whole = {**summary(rounds, ratios), **lived}
    print(json.dumps(whole))
    if args.json:
        what = results.provenance("benchmarks.endurance", arguments, commit)
        results.write(args.json, {**what, "seed": args.seed, "summary": whole, "ratios": ratios, "rounds": rounds})
    return 0


class World:
    """Random images, uint8 RGB [H, W, 3], each of one of the classes that the device knows."""

    def __init__(self, device: Device, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.names = device.classes or ("a", "b")
        self._base = self._rng.integers(40, 216, (len(self.names), *device.bundle.image_size, 3))

    def show(self) -> tuple[np.ndarray, str]:
        """Return an image and the name of its class."""
        slot = int(self._rng.integers(len(self.names)))
        noise = self._rng.integers(-40, 41, self._base[slot].shape)
        return np.clip(self._base[slot] + noise, 0, 255).astype(np.uint8), self.names[slot]


def live(device: Device, calls: Calls) -> dict[str, Any]:
    """Return what one round took: training steps, memory, milliseconds (median) a call."""
    before = calls.steps
    taken = {"teach": [calls.time("teach") for _ in range(ONE_BY_ONE)], "learn": []}
    while calls.steps - before < ROUND:
        taken["learn"].append(calls.time("learn"))
    taken["predict"] = [calls.time("predict") for _ in range(ROUND)]
    device.save()
    gc.collect()
    give_back_freed()
    return {
        "steps": calls.steps - before,
        "predictions": ROUND,
        "memory_mb": resident_memory_mb(),
        **{f"{name}_ms": statistics.median(times) for name, times in taken.items()},
    }


class Calls:
    """The calls that are timed, by name: each returns the milliseconds of this thread's processor time that it took."""

    def __init__(self, device: Device, world: World, replay: str) -> None:
        self._device, self._world, self._replay = device, world, replay
        self.steps = 0

    def time(self, name: str) -> float:
        """Make one call, `teach`, `learn` or `predict`, on new images; `steps` counts the training steps."""
        shown = [self._world.show() for _ in range(AT_ONCE if name == "learn" else 1)]
        images, labels = [image for image, _ in shown], [label for _, label in shown]
        started = time.thread_time()
        if name == "teach":
            self.steps += self._device.teach(images[0], labels[0], self._replay)["steps"]
        elif name == "learn":
            self.steps += self._device.learn(images, labels, self._replay, EPOCHS)["steps"]
        else:
            self._device.predict(images[0])
        return (time.thread_time() - started) * 1e3


def slow_down(calls: Calls, device: Device, args: argparse.Namespace, compared: Mapping[str, int]) -> dict[str, float]:
    """Return by call how much longer it takes here than in a new process that starts from the saved state."""
    with tempfile.TemporaryDirectory() as folder:
        for file in device.state_folder.glob("state.*.npz"):
            shutil.copy(file, folder)
        given = [str(Path(args.bundle).resolve()), folder, args.runtime, args.replay, str(args.seed)]
        command = [sys.executable, "-m", "benchmarks.endurance", FRESH, *given]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as fresh:
            pipes = fresh.stdin, fresh.stdout
            ratios = {}
            for name, count in compared.items():
                here, there = [], []
                for _ in range(count):
                    here.append(calls.time(name))
                    there.append(_ask(pipes, name))
                ratios[name] = statistics.median(here) / statistics.median(there)
            _ask(pipes, "end")
    return ratios


def _ask(pipes: tuple[Any, Any], name: str) -> float:
    pipes[0].write(name + "\n")
    pipes[0].flush()
    return float(pipes[1].readline())


def serve(bundle: str, folder: str, runtime: str, replay: str, seed: str) -> int:
    """Be the new process: make the calls that standard input names, print what each took."""
    with Device.open(bundle, folder, runtime) as device:
        calls = Calls(device, World(device, int(seed)), replay)
        for name in ("teach", "learn", "predict"):
            calls.time(name)  # the first allocate
        for line in iter(sys.stdin.readline, "end\n"):
            print(calls.time(line.strip()), flush=True)
        print(0)
    return 0


def summary(rounds: Sequence[dict[str, Any]], ratios: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return growth after the first round and slow-down, the median over the processes compared with."""
    whole: dict[str, Any] = {
        "steps": sum(each["steps"] for each in rounds),
        "predictions": sum(each["predictions"] for each in rounds),
        "memory_growth_mb": max(each["memory_mb"] for each in rounds[1:]) - rounds[0]["memory_mb"],
        **{f"{name}_slow_down": statistics.median(each[name] for each in ratios) for name in COMPARED},
    }
    slowest = max(whole[f"{name}_slow_down"] for name in COMPARED)
    return {**whole, "holds": whole["memory_growth_mb"] <= MIB and slowest <= SLOWER}


def render(result: dict[str, Any]) -> str:
    """Return a table of one result file."""
    whole, rounds = result["summary"], result["rounds"]
    shown = rounds[0], rounds[len(rounds) // 2], rounds[-1]
    lines = [
        f"{whole['steps']:,} training steps and {whole['predictions']:,} predictions in one process "
        f"({whole['runtime']}), {whole['saves']} saves, {whole['rolled_back']} steps rolled back. Memory is the "
        "resident size; times are processor time of the median call, and the slow-down is that at the end against "
        f"new processes, in turn with them (median of {len(result['ratios'])}).",
        "",
        "| | after 1,000 | half way | end | change | allowed |",
        "|---|---|---|---|---|---|",
        f"| memory, MiB | {' | '.join(format(each['memory_mb'], '.1f') for each in shown)} | at most "
        f"{whole['memory_growth_mb']:+.2f} | +{MIB:g} |",
    ]
    for name, what in (("teach", "one label"), ("learn", f"{AT_ONCE} labels at once"), ("predict", "prediction")):
        times = " | ".join(format(each[f"{name}_ms"], ".1f") for each in shown)
        lines.append(f"| {what}, ms | {times} | {whole[f'{name}_slow_down'] - 1:+.1%} | +{SLOWER - 1:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.run(main))
