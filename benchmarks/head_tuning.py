"""The head's settings on digits, in seconds: `python -m benchmarks.head_tuning --epochs 5,20 --learning-rates 1e-3`.

Prompt-free features of the shipped backbone, computed once; five tasks of two digits, learned one after another by the
device's own learner with the NumPy head and replay of class statistics. The default seeds are not the reported ones.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from firmware_host.bundle import ClassStatistics, state_shapes
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.learning import learner
from keras_cbpnet import cli
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.data import class_incremental, load_dataset

TASKS = 5
SLOTS = 16


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.head_tuning", description=(__doc__ or "").splitlines()[0])

    def several(kind: type) -> object:
        return lambda text: [kind(part) for part in text.split(",")]

    parser.add_argument("--epochs", type=several(int), default=[5, 20], help="passes over a task's features")
    parser.add_argument("--learning-rates", type=several(float), default=[1e-3, 3e-3], help="Adam's step sizes")
    parser.add_argument("--units", type=several(int), default=[64], help="hidden units")
    parser.add_argument("--blocks", type=several(str), default=["prototype"], help="forms of the block")
    parser.add_argument("--seeds", type=several(int), default=list(range(10, 16)), help="of class order and learning")
    parser.add_argument("--json", action="store_true", help="print a JSON line per setting")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every combination and print the average accuracy over all ten digits: mean, deviation, worst seed."""
    args = build_parser().parse_args(argv)
    streams = {seed: feature_stream(seed) for seed in args.seeds}
    for block, units, rate, epochs in itertools.product(args.blocks, args.units, args.learning_rates, args.epochs):
        config = HeadConfig(block=block, units=units, slots=SLOTS, batch=32, learning_rate=rate)
        scores = [final_accuracy(tasks, config, epochs, seed) for seed, tasks in streams.items()]
        row = {"block": block, "units": units, "learning_rate": rate, "epochs": epochs}
        row.update(mean=float(np.mean(scores)), std=float(np.std(scores, ddof=1)), worst=min(scores))
        print(json.dumps(row) if args.json else "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return 0


class FeatureTask(NamedTuple):
    """A task's slots, and its training and test images: features float32 [N, d], slots int32 [N]."""

    slots: tuple[int, ...]
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def feature_stream(seed: int) -> list[FeatureTask]:
    """Return the tasks of digits with features [N, d] in the place of images."""
    from keras_cbpnet.config import TrainConfig
    from keras_cbpnet.methods.build import build_model

    model = build_model(TrainConfig(qat=False), 10)

    def features(images: np.ndarray) -> np.ndarray:
        return model.batched(model.query, images)

    tasks = class_incremental(load_dataset("digits", model.backbone.config.image_size), TASKS, seed)
    return [FeatureTask(t.slots, features(t.x_train), t.y_train, features(t.x_test), t.y_test) for t in tasks]


def final_accuracy(tasks: Sequence[FeatureTask], config: HeadConfig, epochs: int, seed: int) -> float:
    """Return the mean accuracy over the tasks after all of them were learned in turn."""
    rng = np.random.default_rng(seed)
    first = tasks[0].x_train
    d = first.shape[1]
    state = {name: np.zeros(s, np.float32) for name, s in state_shapes(config.block, d, config.units, SLOTS).items()}
    bound = math.sqrt(6.0 / d)
    state["w1"] = rng.uniform(-bound, bound, state["w1"].shape).astype(np.float32)
    constants = {"feature_mean": first.mean(axis=0), "feature_scale": np.maximum(first.std(axis=0), 1e-3)}
    head = NumpyHead({**config.to_dict(), **constants}, state)
    statistics = ClassStatistics.empty(SLOTS, d)
    settings = learner.LearnSettings("statistics", epochs, config.learning_rate, config.batch)
    for task in tasks:
        opened = head.get_state()
        opened["class_mask"][list(task.slots)] = 1.0
        head.set_state(opened)
        learner.observe(head, statistics, task.x_train, task.y_train, config.batch)
        learner.train(head, statistics, task.x_train, task.y_train, settings, rng)
    return float(np.mean([np.mean(head.infer(t.x_test)[1].argmax(axis=1) == t.y_test) for t in tasks]))


if __name__ == "__main__":
    sys.exit(cli.run(main))
