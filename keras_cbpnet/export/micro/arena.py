"""How much memory a model needs under TFLM: found by trying, in the real interpreter."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from keras_cbpnet.errors import UserError

STEP = 64  # bytes, to which the arena is found
LARGEST = 1 << 24

_WORKER = """
import sys
from tflite_micro.python.tflite_micro import runtime
content = open(sys.argv[1], "rb").read()
interpreter = runtime.Interpreter.from_bytes(content, arena_size=int(sys.argv[2]))
interpreter.invoke()
interpreter.print_allocations()
"""  # in a separate process: an arena that is too small may end it


def measure_arena(model: bytes) -> dict[str, int]:
    """Return the smallest arena in which TFLM opens and runs `model`, and what the recording allocator says of it.

    Returns:
        `bytes`, and in bytes `tensors` (the plan's, reused while it runs), `variables`, `persistent` (kernels' data),
        `tensor_records` and `operator_records`. Measured on this machine; where pointers are shorter than here, the
        records are smaller.

    Raises:
        UserError: tflite-micro is missing, or does not run the model in 16 MiB.
    """
    if importlib.util.find_spec("tflite_micro") is None:
        raise UserError("target micro needs the TFLM interpreter to measure with; install keras-cbpnet[micro]")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(model)

        def run(size: int) -> subprocess.CompletedProcess[str]:
            return subprocess.run([sys.executable, "-c", _WORKER, str(file), str(size)], capture_output=True, text=True)

        done = run(LARGEST)
        if done.returncode:
            raise UserError(f"TFLM does not run the model: {' '.join(done.stderr.split())[-200:]}")
        said = done.stderr + done.stdout
        used = _number(said, r"total (\d+) bytes")
        low, high = 0, max(STEP, -(-used * 5 // 4 // STEP) * STEP)
        if run(high).returncode:
            low, high = high, LARGEST
        while high - low > STEP:
            middle = (low + high) // 2 // STEP * STEP
            low, high = (low, middle) if run(middle).returncode == 0 else (middle, high)
    return {
        "bytes": high,
        "tensors": _number(said, r"head (\d+) bytes"),
        "variables": _number(said, r"'TfLiteTensor variable buffer data' used (\d+)"),
        "persistent": _number(said, r"'Persistent buffer data' used (\d+)"),
        "tensor_records": _number(said, r"'TfLiteEvalTensor data' used (\d+)"),
        "operator_records": _number(said, r"'NodeAndRegistration struct' used (\d+)"),
    }


def shared_arena(*measured: dict[str, int]) -> int:
    """Return the bytes of one arena for models that run one after the other, each as `measure_arena` found it.

    They have the memory of their tensors in common; all else is kept for each.
    """
    return sum(each["bytes"] - each["tensors"] for each in measured) + max(each["tensors"] for each in measured)


def _number(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    return int(found.group(1)) if found else 0
