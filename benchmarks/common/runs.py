"""Runs of the trainer that benchmarks measure: their options, their data, their metrics, each run trained once."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from benchmarks.common import results
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig, read_config
from keras_cbpnet.errors import UserError
from keras_cbpnet.keras_settings import use_keras
from keras_cbpnet.presets import PRESETS, check_weights, get_preset


def build_parser(module: str, summary: str | None, data: str | None, seeds: Sequence[int]) -> cli.ArgumentParser:
    """Return a parser with the options that all these benchmarks have.

    Args:
        module: the benchmark's name, also that of its work folder.
        summary: its docstring, whose first line is shown.
        data: default of --data; None: it must be given.
        seeds: default of --seeds.
    """
    parser = cli.ArgumentParser(prog=f"python -m benchmarks.{module}", description=(summary or "").splitlines()[0])
    add = parser.add_argument
    add("--preset", choices=list(PRESETS), default="vit_nano_32", help="backbone")
    add("--weights", type=Path, help="weights file; default: the shipped one")
    required: dict[str, Any] = {"required": True} if data is None else {"default": data}
    add("--data", metavar="SPEC", help="labelled images, as --dataset of the trainer", **required)
    add(
        "--per-class",
        type=image_counts,
        metavar="N,M[,C]",
        help="numbers N,M: the first N training and M test images of each class; and C: of C classes, evenly spaced",
    )
    add("--seeds", type=cli.seed_list, default=list(seeds), metavar="S,S,...", help="class orders and weights")
    add("--jobs", type=int, default=1, metavar="N", help="runs of a row at a time; -1: one a core")
    add("--work", type=Path, default=Path(f"runs/{module}"), help="folder of the run folders")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def images_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a TrainConfig that say which images a run sees through which backbone.

    Raises:
        UserError: the preset's weights are not there.
    """
    check_weights(get_preset(args.preset), args.weights)
    dataset = args.data
    if args.per_class:
        dataset = subset(args.data, args.per_class, args.work, get_preset(args.preset).backbone.image_size)
    return {"preset": args.preset, "weights": str(args.weights or ""), "dataset": dataset}


def subset(spec: str, numbers: Sequence[int], folder: Path, size: int) -> str:
    """Return the data set of a part of the images of `spec`, as a file.

    Args:
        spec: as --dataset of the trainer.
        numbers: the first training and the first test images of each class, and where there is a third, of so many
            classes, evenly spaced.
        folder: of the file.
        size: side of the images in pixels.

    Raises:
        UserError: there are fewer classes.
    """
    from keras_cbpnet.data import open_dataset

    data = open_dataset(spec, size)
    known = len(data.class_names)
    wanted = numbers[2] if len(numbers) > 2 else known
    if wanted > known:
        raise UserError(f"--per-class asks for {wanted} classes; {spec} has {known}")
    classes = np.arange(wanted) * known // wanted
    arrays: dict[str, Any] = {"class_names": np.array(data.class_names)[classes]}
    for part, labels, count in (("train", data.y_train, numbers[0]), ("test", data.y_test, numbers[1])):
        rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in classes]))
        arrays[f"x_{part}"] = getattr(data, f"x_{part}")[rows]
        arrays[f"y_{part}"] = np.searchsorted(classes, labels[rows])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"data-{'-'.join(map(str, numbers))}.npz"
    np.savez(file, **arrays)
    return f"npz:{file}"


def image_counts(text: str) -> list[int]:
    """Return the numbers in `text`, such as `20,10` or `20,10,12`: training and test images of a class, and classes."""
    counts = text.split(",")
    if len(counts) not in (2, 3) or not all(count.isdecimal() and int(count) > 0 for count in counts):
        raise argparse.ArgumentTypeError(f"{text!r} is not two or three numbers from 1 on, such as 20,10")
    return [int(count) for count in counts]


def names_of(what: str, known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what reads some of the `known` names from one text, such as `ncm,block`; `what` one of them is called."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"no {what} {unknown[0]!r}; known are {', '.join(known)}")
        return names

    return read


def measure(config: TrainConfig, seeds: Sequence[int], folder: Path, jobs: int = 1) -> dict[str, Any]:
    """Return what the metrics of `config` come to, one number per seed, and the seconds that the runs took now.

    `jobs` runs at a time go through joblib, whose `parallel_config` can send them elsewhere; the numbers are the same.
    """
    begun = time.perf_counter()
    each = [(dataclasses.replace(config, seed=seed), folder / f"seed-{seed}") for seed in seeds]
    runs = joblib.Parallel(n_jobs=jobs)(joblib.delayed(run)(one, place) for one, place in each)
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
    use_keras("tensorflow")  # in a process of its own, where there are several jobs
    from keras_cbpnet.training.trainer import train

    finished = folder / "metrics.json"
    if finished.exists() and read_config(folder) == config:
        return json.loads(finished.read_text())
    return train(config, folder)


def images_shown(record: dict[str, Any]) -> str:
    """Return which images a result is about, in words."""
    few = record.get("per_class")
    if not few:
        return "all images"
    return f"{few[0]} training and {few[1]} test images a class" + (f", {few[2]} classes" if len(few) > 2 else "")


def cell(found: dict[str, Any]) -> str:
    """Return mean and deviation in percent."""
    return f"{100 * found['mean']:.1f}" + ("" if found["std"] is None else f" ± {100 * found['std']:.1f}")


def say(text: str) -> None:
    """Announce what was measured."""
    print(text, file=sys.stderr, flush=True)
