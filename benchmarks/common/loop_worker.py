"""The learning loop and what it is made of, timed when asked: `loop_worker.py HEADS BUNDLE RUNTIME`.

It runs with the device package of any checkout. HEADS holds folders as `common.heads.write_head` makes them. A line of
the standard input is a measure, the name of a head and a count; the answer is microseconds of processor time.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_host import Device
from firmware_host.bundle import ClassStatistics
from firmware_host.engines.interpreter import InterpreterHead
from firmware_host.learning import learner
from firmware_host.shared.runtimes import RUNTIMES

HEADS, BUNDLE, RUNTIME = Path(sys.argv[1]), *sys.argv[2:4]
NEW = 16  # images that a class is new for
CLASS = "timed"  # a name that the bundle does not know

Arrays = dict[str, NDArray[Any]]
now = time.process_time


class Case:
    """A head under the runtime, its batches, and class statistics around its class means."""

    def __init__(self, name: str) -> None:
        folder = HEADS / name
        config = json.loads((folder / "config.json").read_text())
        with np.load(folder / "state.npz") as state, np.load(folder / "batches.npz") as batches:
            self.start, self.batches = dict(state), dict(batches)
        entry = RUNTIMES[RUNTIME]
        load = getattr(importlib.import_module(str(entry.module)), entry.interface)
        self.interpreter = load(str(folder / "head.tflite"), num_threads=1)
        self.interpreter.allocate_tensors()
        self.graph = InterpreterHead(self.interpreter, {key: value.shape for key, value in self.start.items()})
        self.head = looked_at(self.graph, config)
        self.head.set_state(self.start)
        scale = np.array(config["feature_scale"])
        count = self.start["class_count"]
        scatter = np.diag(scale**2) * (count.sum() - len(count))
        self.statistics = ClassStatistics(self.start["class_mean"], count, scatter)
        self.rows, self.rate, self.steps = int(config["batch"]), float(config["learning_rate"]), 0

    def batch(self) -> tuple[Any, ...]:
        """Return the next batch, as `Head.train` takes it."""
        at = self.steps % len(self.batches["label"])
        self.steps += 1
        feature, label, mask, fresh = (self.batches[key][at] for key in ("feature", "label", "class_mask", "fresh"))
        return feature, label, mask, self.rate, fresh

    def images(self, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return features [count, d] and slots, of the batches."""
        feature = self.batches["feature"].reshape(-1, self.batches["feature"].shape[2])
        return feature[:count], self.batches["label"].reshape(-1)[:count]


def looked_at(head: InterpreterHead, config: dict[str, Any]) -> Any:
    """Return a head as a device of this checkout has it."""
    try:
        return importlib.import_module("firmware_host.engines.kept").KeptHead(head, config)
    except ImportError:
        return head


case = lru_cache(Case)


def invoke(name: str, count: int) -> list[float]:
    """Return the time of the training graph alone, without Python around it."""
    found = case(name)
    feature, label, mask, rate, fresh = found.batch()
    run = found.interpreter.get_signature_runner("train")
    run(feature=feature, label=label, class_mask=mask, learning_rate=np.float32(rate), fresh=fresh)
    graph, index = run._interpreter_wrapper, run._subgraph_index
    return [timed(lambda: graph.Invoke(index), count)]


def step(name: str, count: int) -> list[float]:
    """Return the time of a training step of the head, batch at hand."""
    found = case(name)
    return [timed(lambda: found.head.train(*found.batch()), count)]


def loop(name: str, count: int) -> list[float]:
    """Return the time of a step of the learning loop over `count` images, and that of its looks at the head."""
    found = case(name)
    feature, label = found.images(count)
    settings = learner.LearnSettings("statistics", 20, found.rate, found.rows)
    looks = [0.0]
    with ExitStack() as timers:
        for owner, each in ((learner, "believed"), (learner.Guard, "__init__"), (learner.Guard, "judge")):
            timers.enter_context(timing(owner, each, looks))
        began = now()
        made = learner.train(found.head, found.statistics, feature, label, settings, np.random.default_rng(0)).steps
        spent = now() - began
    return [1e6 * spent / made, 1e6 * looks[0] / made]


def infer(name: str, count: int) -> list[float]:
    """Return the time of a look at one feature: of the head as devices have it, and of the graph alone."""
    found = case(name)
    [row], _ = found.images(1)
    found.head.infer(row[None])
    return [timed(lambda: found.head.infer(row[None]), count), timed(lambda: found.graph.infer(row[None]), count)]


def state(name: str, count: int) -> list[float]:
    """Return the time of reading the state after a training step."""
    found, spent = case(name), 0.0
    for _ in range(count):
        found.head.train(*found.batch())
        began = now()
        found.head.get_state()
        spent += now() - began
    return [1e6 * spent / count]


def teach(_: str, count: int) -> list[float]:
    """Return the time of teaching an image of a new class, 16 training steps, on a device with the bundle."""
    device, images = taught()
    spent = 0.0
    for at in range(count):
        if at % NEW == 0 and CLASS in device.classes:
            device.forget_class(CLASS)
        began = now()
        device.teach(images[at % NEW], CLASS)
        spent += now() - began
    return [1e6 * spent / count]


@lru_cache
def taught() -> tuple[Device, list[NDArray[np.uint8]]]:
    folder = tempfile.mkdtemp()
    device = Device.open(BUNDLE, folder, RUNTIME, seed=0)
    device.camera.follows = False
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*device.bundle.image_size, 3), np.uint8) for _ in range(NEW)]
    device.teach(images[0], CLASS)
    return device, images


def timed(call: Callable[[], object], count: int) -> float:
    """Return the mean microseconds of a call."""
    began = now()
    for _ in range(count):
        call()
    return 1e6 * (now() - began) / count


@contextmanager
def timing(owner: Any, name: str, spent: list[float]) -> Iterator[None]:
    """Within this context, calls of `owner.name` add their time to `spent`."""
    plain = getattr(owner, name)

    def called(*given: Any, **named: Any) -> Any:
        began = now()
        try:
            return plain(*given, **named)
        finally:
            spent[0] += now() - began

    setattr(owner, name, called)
    try:
        yield
    finally:
        setattr(owner, name, plain)


MEASURES = {each.__name__: each for each in (invoke, step, loop, infer, state, teach)}


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        measure, name, count = line.split()
        print(*MEASURES[measure](name, int(count)), flush=True)


if __name__ == "__main__":
    main()
