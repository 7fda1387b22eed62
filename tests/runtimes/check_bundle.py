"""Self-test of a bundle and fifty training steps: check_bundle.py BUNDLE RUNTIME OUTPUT.npz [IMAGE...].

Runs where no host library is. Prints the result of the self-test as JSON, and a digest of the pixels of each image;
writes the head's state. Python 3.9 to 3.13, NumPy and one interpreter; Pillow where images are given.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
STEPS = 50


def main(bundle: str, runtime: str, output: str, *images: str) -> None:
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
    result["pixels"] = [digest(image) for image in images]
    where = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
    sys.stdout.write(json.dumps({**result, **where}) + "\n")


def digest(image: str) -> str:
    """Return what tells the pixels of an image from others."""
    from firmware_host.shared.image_files import read_image_file

    pixels = read_image_file(image, (6, 10))
    return f"{pixels.shape} {hashlib.sha256(pixels.tobytes()).hexdigest()}"


if __name__ == "__main__":
    main(*sys.argv[1:])
