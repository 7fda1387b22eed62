"""A backbone under one of the device's runtimes: `tflite_worker.py RUNTIME FILE`."""

from __future__ import annotations

import importlib
import sys

import numpy as np
from answer import answer

from firmware_host.shared.runtimes import RUNTIMES


def main() -> None:
    """Answer until the input ends."""
    runtime, file = sys.argv[1:]
    entry = RUNTIMES[runtime]
    interpreter = getattr(importlib.import_module(str(entry.module)), entry.interface)(file, num_threads=1)
    interpreter.allocate_tensors()
    [given] = interpreter.get_input_details()
    outputs = [each["index"] for each in interpreter.get_output_details()]
    image = np.random.default_rng(0).integers(0, 256, given["shape"], np.uint8)

    def call() -> None:
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        for index in outputs:
            interpreter.get_tensor(index)

    answer(call)


if __name__ == "__main__":
    main()
