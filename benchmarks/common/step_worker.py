"""One engine of the head's training step, timed when asked: `step_worker.py FOLDER ENGINE [FILE]`.

In a process of its own: TensorFlow Lite's runtimes do not share one, and PyTorch may have an environment of its own.
FOLDER holds config.json, the `head` section of a manifest, state.npz, where to start, and batches.npz. Each line of the
standard input is a number of steps; the answer is their mean processor time in microseconds and the last loss.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
ENGINES = {"torch": "Step", "products": "Products"}  # of PyTorch, classes of step_torch
INPUTS = ("feature", "label", "class_mask", "fresh")


def main() -> None:
    """Answer until the input ends."""
    folder, engine, *files = sys.argv[1:]
    config = json.loads((Path(folder) / "config.json").read_text())
    with np.load(Path(folder) / "state.npz") as state, np.load(Path(folder) / "batches.npz") as file:
        batches = [list(file[name]) for name in INPUTS]
        train = opened(engine, files, config, dict(state))
    rate = config["learning_rate"]
    done = 0
    for line in sys.stdin:
        steps = int(line)
        loss = 0.0
        began = time.process_time()
        for step in range(done, done + steps):
            feature, label, class_mask, fresh = (rows[step % len(rows)] for rows in batches)
            loss = train(feature, label, class_mask, rate, fresh)
        spent = time.process_time() - began
        done += steps
        print(1e6 * spent / steps, loss, flush=True)


def opened(engine: str, files: list[str], config: dict[str, Any], state: Arrays) -> Callable[..., float]:
    """Return what does one step from `state` on and returns its loss."""
    if engine in ENGINES:
        step: Callable[..., float] = getattr(importlib.import_module("step_torch"), ENGINES[engine])(config, state)
        return step
    from firmware_host.engines.numpy_head import NumpyHead

    head = NumpyHead(config, state) if engine == "numpy" else interpreted(engine, files[0], config, state)
    return lambda *batch: head.train(*batch).loss


def interpreted(engine: str, file: str, config: dict[str, Any], state: Arrays) -> Any:
    """Return the head in `file` under the runtime `engine`, in `state`."""
    from firmware_host.engines.compiled import CompiledInterpreter
    from firmware_host.engines.interpreter import InterpreterHead
    from firmware_host.shared.runtimes import RUNTIMES

    entry = RUNTIMES[engine]
    load = getattr(importlib.import_module(str(entry.module)), entry.interface)
    interpreter = CompiledInterpreter(load, file, 1) if engine == "litert_compiled" else load(file, num_threads=1)
    interpreter.allocate_tensors()
    head = InterpreterHead(interpreter, {name: value.shape for name, value in state.items()})
    head.set_state(state)
    return head


if __name__ == "__main__":
    main()
