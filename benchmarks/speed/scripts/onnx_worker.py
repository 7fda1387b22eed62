"""A backbone under ONNX Runtime, one thread: `onnx_worker.py FILE`; runs in the peers' environment."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
from answer import answer


def main() -> None:
    """Answer until the input ends."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    image = np.random.default_rng(0).integers(0, 256, given.shape, np.uint8)
    answer(lambda: session.run(None, {given.name: image}))


if __name__ == "__main__":
    main()
