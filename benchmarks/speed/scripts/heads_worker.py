"""Heads of many sizes under one runtime: `heads_worker.py RUNTIME FOLDER`.

FOLDER has a folder for each, as `common.heads.write_head` writes it. To a number of calls the answer is, head by head
in the order of their names, the mean processor time of `train`, `infer` and `get_state` in microseconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.step_worker import INPUTS, interpreted
from firmware_host.engines.numpy_head import NumpyHead


def main() -> None:
    """Answer until the input ends."""
    runtime, folder = sys.argv[1], Path(sys.argv[2])
    calls = [call for case in sorted(folder.iterdir()) for call in opened(runtime, case)]
    for call in calls:
        call()
    for line in sys.stdin:
        print(*(timed(call, int(line)) for call in calls), flush=True)


def opened(runtime: str, case: Path) -> list[Callable[[], Any]]:
    """Return what is timed of a head."""
    config = json.loads((case / "config.json").read_text())
    with np.load(case / "state.npz") as state, np.load(case / "batches.npz") as file:
        batches, state = [list(file[name]) for name in INPUTS], dict(state)
    if runtime == "numpy":
        head: Any = NumpyHead(config, state)
    else:
        head = interpreted(runtime, str(case / "head.tflite"), config, state)
    rate, done = config["learning_rate"], 0

    def train() -> None:
        nonlocal done
        feature, label, class_mask, fresh = (rows[done % len(rows)] for rows in batches)
        head.train(feature, label, class_mask, rate, fresh)
        done += 1

    feature = batches[0][0][:1]
    return [train, lambda: head.infer(feature), head.get_state]


def timed(call: Callable[[], Any], count: int) -> float:
    """Return the mean microseconds of a call."""
    began = time.process_time()
    for _ in range(count):
        call()
    return 1e6 * (time.process_time() - began) / count


if __name__ == "__main__":
    main()
