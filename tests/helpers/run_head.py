"""Feed a head.tflite and the NumPy engine the same batches: run_head.py RUNTIME FOLDER OPTIMIZER DELEGATES.

In a process of its own. FOLDER holds <block>.tflite and <block>.npz, the start state; prints a line of JSON per block.
DELEGATES: `default`, `none`, or `product`: as the table of runtimes says for the optimizer.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
from helpers.head_case import Case

from firmware_host.engines.compiled import CompiledInterpreter
from firmware_host.shared.runtimes import RUNTIMES


def compare(interpreter, case, start, steps=500):
    runner = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
    engine, report = case.numpy_head(start), {"signatures": sorted(runner)}

    def get_state():
        return {name: each.reshape(start[name].shape) for name, each in runner["get_state"]().items()}

    def set_state(state):
        return runner["set_state"](**{name: each.reshape(each.shape or 1) for name, each in state.items()})

    shipped = get_state()
    report["start_error"] = max(float(np.abs(shipped[name] - start[name]).max()) for name in start)
    report["names"] = sorted(shipped)

    rng = np.random.default_rng(5)
    other = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in start.items()}
    report["set_ok"] = float(set_state(other)["ok"])
    found = get_state()
    report["set_error"] = max(float(np.abs(found[name] - other[name]).max()) for name in start)
    set_state(start)

    def infer_error(feature):
        errors = []
        for row in feature:
            found = runner["infer"](feature=row[None])
            for name, expected in zip(("logits", "probabilities"), engine.infer(row[None])):
                errors.append(float(np.abs(found[name] - expected).max()))
        return max(errors)

    state_error, loss_error, accuracy_error, mismatches, rebirths, infer_errors = 0.0, 0.0, 0.0, 0, 0, []
    for step, (feature, label, class_mask, rate, fresh) in enumerate(case.stream(steps)):
        if step in (0, steps // 2):
            infer_errors.append(infer_error(feature))
        engine.observe(feature, label)
        assert runner["observe"](feature=feature, label=label)["ok"] == 1
        expected = engine.train(feature, label, class_mask, rate, fresh)
        arguments = {"feature": feature, "label": label, "class_mask": class_mask, "learning_rate": rate}
        found = runner["train"](**arguments, fresh=fresh)
        loss_error = max(loss_error, abs(float(found["loss"]) - expected.loss))
        accuracy_error = max(accuracy_error, abs(float(found["accuracy"]) - expected.accuracy))
        mismatches += int(found["replaced"]) != expected.replaced
        rebirths += expected.replaced >= 0
        state = get_state()
        state_error = max(state_error, *(float(np.abs(state[n] - v).max()) for n, v in engine.state.items()))
    infer_errors.append(infer_error(feature))
    report.update(state_error=state_error, loss_error=loss_error, accuracy_error=accuracy_error)
    return {**report, "mismatches": mismatches, "rebirths": rebirths, "infer_error": max(infer_errors)}


def opened(runtime, path, optimizer, delegates):
    entry, plain = RUNTIMES[runtime], {}
    if delegates == "product":
        plain = dict(entry.sgd_options) if optimizer == "sgd" else {}
    elif delegates == "none" and runtime == "litert_compiled":
        plain["experimental_preserve_all_tensors"] = True  # which goes without delegates there
    elif delegates == "none":
        resolvers = importlib.import_module(entry.module).OpResolverType
        plain["experimental_op_resolver_type"] = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    load = getattr(importlib.import_module(entry.module), entry.interface)
    if runtime == "litert_compiled":
        return CompiledInterpreter(load, str(path), 1, **plain)
    return load(model_path=str(path), num_threads=1, **plain)


def main():
    runtime, folder, optimizer, delegates = sys.argv[1:]
    for path in sorted(Path(folder).glob("*.tflite")):
        with np.load(path.with_suffix(".npz")) as file:
            start = dict(file)
        interpreter = opened(runtime, path, optimizer, delegates)
        (batch,) = interpreter.get_signature_runner("train").get_input_details()["label"]["shape"]
        case = Case(path.stem, *start["w1"].shape, len(start["class_mask"]), int(batch), {"optimizer": optimizer})
        sys.stdout.write(json.dumps({"block": path.stem, **compare(interpreter, case, start)}) + "\n")


if __name__ == "__main__":
    main()
