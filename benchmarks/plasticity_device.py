"""The stream through head.tflite, in a process without TensorFlow; prints each task's accuracy on a line.

plasticity_device.py RUNTIME HEAD FEATURES SEED TASKS LEARNING_RATE FRESH_SCALE; `plasticity --engine tflite` starts it.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.plasticity_stream import WAYS, Stream, load_features


def main() -> None:
    """Train and test the head on every task."""
    runtime, model, file, seed, tasks, rate, fresh_scale = sys.argv[1:]
    interpreter = importlib.import_module(f"{runtime}.interpreter").Interpreter(model_path=model, num_threads=1)
    train, infer = (interpreter.get_signature_runner(name) for name in ("train", "infer"))
    features = load_features(Path(file))
    stream = Stream(features, int(seed))
    class_mask, learning_rate = np.ones(WAYS, np.float32), np.float32(rate)
    for index in range(int(tasks)):
        t = stream.task(index)
        for rows, label, fresh in zip(t.rows, t.label, t.fresh, strict=True):
            step = {"feature": features.x_train[rows], "label": label, "fresh": fresh * np.float32(fresh_scale)}
            train(**step, class_mask=class_mask, learning_rate=learning_rate)
        guesses = [infer(feature=features.x_test[row][None])["logits"].argmax() for row in t.test_rows]
        print(json.dumps(float(np.mean(np.equal(guesses, t.test_label)))), flush=True)


if __name__ == "__main__":
    main()
