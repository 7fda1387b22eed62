"""All that a head.tflite returns over some steps: trace_head.py RUNTIME MODEL OUTPUT, in a process of its own."""

from __future__ import annotations

import importlib
import sys

import numpy as np

STEPS = 30


def main():
    runtime, model, output = sys.argv[1:]
    interpreter = importlib.import_module(f"{runtime}.interpreter").Interpreter(model_path=model, num_threads=1)
    runners = {name: interpreter.get_signature_runner(name) for name in sorted(interpreter.get_signature_list())}
    rng = np.random.default_rng(0)

    def value(name, details):
        shape = tuple(details["shape"])
        if name == "label":
            return rng.integers(-1, 10, shape).astype(np.int32)
        number = {"learning_rate": 1e-3, "class_mask": 1.0}.get(name)
        return np.asarray(rng.normal(size=shape) if number is None else np.full(shape, number), np.float32)

    found = {}
    for step in range(STEPS):
        for name in ("get_state", "infer", "observe", "train"):
            inputs = {key: value(key, details) for key, details in runners[name].get_input_details().items()}
            found.update({f"{step}.{name}.{key}": each for key, each in runners[name](**inputs).items()})
    state = {key: each + np.float32(1) for key, each in runners["get_state"]().items()}
    found["set_state.ok"] = runners["set_state"](**state)["ok"]
    found.update({f"set_state.{key}": each for key, each in runners["get_state"]().items()})
    np.savez(f"{output}.npz", **found)


if __name__ == "__main__":
    main()
