"""Feed head_step.tflite files under TFLM and the NumPy engine the same batches: run_head_step.py FOLDER.

In a process of its own. FOLDER holds <block>_<optimizer>_<batch>.tflite and .npz, the start state; prints one line of
JSON per file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from helpers.head_case import step_case
from tflite_micro.python.tflite_micro import runtime

STEPS = 500


def compare(content, case, start):
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=1 << 20)

    def invoke(*inputs):
        for index, value in enumerate(inputs):
            interpreter.set_input(np.asarray(value), index)
        interpreter.invoke()
        return [interpreter.get_output(index) for index in range(3)]

    engine = case.numpy_head(start)
    loss_error, logits_error, idle_error, mismatches, rebirths = 0.0, 0.0, 0.0, 0, 0
    for step, (feature, label, class_mask, rate, fresh) in enumerate(case.stream(STEPS)):
        if case.changes["optimizer"] == "sgd":
            rate = np.float32(rate * 10)
        observe = step % 3 != 2
        if observe:
            engine.observe(feature, label)
        logits = engine.infer(feature)[0]
        expected = engine.train(feature, label, class_mask, rate, fresh)
        loss, found, replaced = invoke(feature, label, class_mask, rate, fresh, np.float32(observe))
        loss_error = max(loss_error, abs(float(loss) - expected.loss))
        logits_error = max(logits_error, float(np.abs(found - logits).max()))
        mismatches += int(replaced) != expected.replaced
        rebirths += expected.replaced >= 0
        if step % 10 == 0:  # a prediction in between; what it changed would show in the steps that follow
            _, found, replaced = invoke(feature, label, class_mask, np.float32(0), fresh, np.float32(0))
            idle_error = max(idle_error, float(np.abs(found - engine.infer(feature)[0]).max()))
            mismatches += int(replaced) != -1
    moved = float(np.abs(engine.state["w2"] - start["w2"]).max())
    errors = {"loss_error": loss_error, "logits_error": logits_error, "idle_error": idle_error}
    return {**errors, "mismatches": mismatches, "rebirths": rebirths, "moved": moved}


def main():
    for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
        block, optimizer, batch = path.stem.split("_")
        with np.load(path.with_suffix(".npz")) as file:
            start = dict(file)
        report = compare(path.read_bytes(), step_case(block, optimizer, int(batch)), start)
        sys.stdout.write(json.dumps({"file": path.stem, **report}) + "\n")


if __name__ == "__main__":
    main()
