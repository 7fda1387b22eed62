"""The stream through the device package, in a process without TensorFlow; prints each task's accuracy on a line.

`python -m benchmarks.plasticity.device SETTINGS`: a JSON object with the arguments of `learn`, as
`python -m benchmarks.plasticity --engine tflite` gives them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.plasticity.stream import WAYS, Stream, load_features
from firmware_host.bundle import Bundle
from firmware_host.engines.find import find_runtime, open_head
from firmware_host.learning.surprise import noticing


def learn(runtime: str, folder: str, features: str, seed: int, tasks: int, fresh_scale: float = 1.0) -> Iterator[float]:
    """Train the head as a device does, on every task in turn; yield the accuracy on each, in 0..1.

    Args:
        runtime: that firmware_host computes with.
        folder: with head.tflite, and in manifest.json the sections `head` and `shapes` of a bundle's.
        features: file of features.
        seed: of the stream.
        tasks: to learn.
        fresh_scale: factor on the incoming weights of a reset unit.
    """
    # There is no backbone here, so this is not a whole bundle, and nothing of it is verified.
    bundle = Bundle(Path(folder), json.loads(Path(folder, "manifest.json").read_text()), identity="")
    head = noticing(bundle, open_head(bundle, find_runtime(runtime)))
    data = load_features(Path(features))
    stream, class_mask, rate = Stream(data, seed), np.ones(WAYS, np.float32), bundle.head["learning_rate"]
    for index in range(tasks):
        t = stream.task(index)
        for rows, label, fresh in zip(t.rows, t.label, t.fresh, strict=True):
            head.train(data.x_train[rows], label, class_mask, rate, fresh * np.float32(fresh_scale))
        guesses = [int(head.infer(data.x_test[row][None])[0].argmax()) for row in t.test_rows]
        yield float(np.mean(np.equal(guesses, t.test_label)))


def main() -> None:
    """Print what `learn` yields."""
    for accuracy in learn(**json.loads(sys.argv[1])):
        print(json.dumps(accuracy), flush=True)


if __name__ == "__main__":
    main()
