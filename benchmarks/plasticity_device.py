"""The stream through head.tflite, in a process without TensorFlow; prints each task's accuracy on a line.

plasticity_device.py SETTINGS, a JSON object with the arguments of `learn`; `plasticity --engine tflite` starts it.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.plasticity_stream import WAYS, Stream, load_features

State = dict[str, NDArray[np.float32]]


def learn(
    runtime: str,
    model: str,
    features: str,
    seed: int,
    tasks: int,
    learning_rate: float,
    fresh_scale: float,
    maturity: int | None,
    calming: float,
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
        maturity: steps after which a surprise renews a unit, as `cbp_surprise` does; None: no surprise counts.
        calming: of `cbp_surprise`.
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
            if maturity is not None and loss > math.log(WAYS):
                state = get_state()
                if (state["age"] > maturity).any():
                    set_state(**renewed(state, maturity))
                    calm = 0
        guesses = [infer(feature=data.x_test[row][None])["logits"].argmax() for row in t.test_rows]
        yield float(np.mean(np.equal(guesses, t.test_label)))


def renewed(state: State, maturity: int) -> State:
    """Return the `state` of an `mlp` head after a surprise: `plasticity.cbp_surprise` for a device, in NumPy."""
    young = (state["age"] <= maturity).astype(np.float32)  # (h,)
    kept = dict.fromkeys(("age", "utility", "mean_activation", "m_w1", "v_w1", "m_b1", "v_b1"), young)
    kept.update(dict.fromkeys(("w2", "m_w2", "v_w2"), young[:, None]))
    kept.update(dict.fromkeys(("b2", "m_b2"), np.zeros(1, np.float32)))
    return {name: value * kept[name] if name in kept else value for name, value in state.items()}


def main() -> None:
    """Print what `learn` yields."""
    for accuracy in learn(**json.loads(sys.argv[1])):
        print(json.dumps(accuracy), flush=True)


if __name__ == "__main__":
    main()
