"""Self-test of a bundle and fifty training steps: check_bundle.py BUNDLE RUNTIME OUTPUT.npz, where no host library is.

Prints the result of the self-test as JSON and writes the head's state. Python 3.9 to 3.13, NumPy and one interpreter.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
STEPS = 50


def main(bundle: str, runtime: str, output: str) -> None:
    sys.path.insert(0, str(ROOT))
    from firmware_host.bundle import read_bundle
    from firmware_host.engines.find import find_runtime, open_head
    from firmware_host.selftest import selftest

    opened, interpreter = read_bundle(bundle), find_runtime(runtime)
    result = selftest(opened, interpreter)
    head = open_head(opened, interpreter)
    golden = opened.arrays("golden.npz", prefix="train.")
    recorded = len(golden["label"])
    replaced = []
    for step in range(STEPS):
        row = [golden[name][step % recorded] for name in ("feature", "label", "class_mask", "learning_rate", "fresh")]
        head.observe(row[0], row[1])
        replaced.append(head.train(*row).replaced)
    np.savez(output, **head.get_state(), replaced=np.array(replaced))
    where = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
    sys.stdout.write(json.dumps({**result, **where}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
