"""The stream through head.tflite, in a process without TensorFlow; prints each task's accuracy on a line.

device.py SETTINGS, a JSON object with the arguments of `learn`; `plasticity --engine tflite` starts it.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.plasticity.stream import WAYS, Stream, load_features

LAST_LAYER = ("w2", "m_w2", "b2", "m_b2")  # what a surprise clears


def learn(
    runtime: str,
    model: str,
    features: str,
    seed: int,
    tasks: int,
    learning_rate: float,
    fresh_scale: float,
    maturity: int,
    calming: float | None,
) -> Iterator[float]:
    """Train the head on every task; yield the accuracy on each, in 0..1.

    Args:
        runtime: module of the interpreter.
        model: file of the head.
        features: file of features.
        seed: of the stream.
        tasks: to learn.
        learning_rate: of the step.
        fresh_scale: factor on the incoming weights of a reborn unit.
        maturity: steps without a surprise after one.
        calming: of the rule `cbp_surprise`; None: the rule is another.
    """
    interpreter = importlib.import_module(f"{runtime}.interpreter").Interpreter(model_path=model, num_threads=1)
    names = ("train", "infer", "get_state", "set_state")
    train, infer, get_state, set_state = (interpreter.get_signature_runner(name) for name in names)
    data = load_features(Path(features))
    stream, class_mask, calm = Stream(data, seed), np.ones(WAYS, np.float32), 0
    for index in range(tasks):
        t = stream.task(index)
        for rows, label, fresh in zip(t.rows, t.label, t.fresh, strict=True):
            rate = learning_rate / (1 + calm / calming) if calming else learning_rate
            step = {"feature": data.x_train[rows], "label": label, "fresh": fresh * np.float32(fresh_scale)}
            loss = float(train(**step, class_mask=class_mask, learning_rate=np.float32(rate))["loss"])
            calm += 1
            if calming is not None and calm > maturity and loss > math.log(WAYS):
                state = get_state()
                set_state(**{**state, **{name: np.zeros_like(state[name]) for name in LAST_LAYER}})
                calm = 0
        guesses = [infer(feature=data.x_test[row][None])["logits"].argmax() for row in t.test_rows]
        yield float(np.mean(np.equal(guesses, t.test_label)))


def main() -> None:
    """Print what `learn` yields."""
    for accuracy in learn(**json.loads(sys.argv[1])):
        print(json.dumps(accuracy), flush=True)


if __name__ == "__main__":
    main()
