"""The bank's prediction in NumPy, and that part of it which a .tflite file could hold, by builtin operators.

    python -m benchmarks.bank_runtime --json benchmarks/results/bank_runtime.json

A prediction looks at all slots, which are products and sums, and then a second time at the likeliest four: a linear
system of 64 unknowns and its determinant, for which TensorFlow Lite has no operator; `observe` needs eigenvectors as
well. So the file holds the first look alone, with the statistics as constants; as variables they would have to be set
again after every renewal. Processor time of a call on one x86-64 thread, the median over rounds in which all take
turns, and instructions of an emulated Cortex-A72.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results
from benchmarks.common.bank_look import DIRECTIONS, PARTS, SLOTS, D, features, full_metric, ways
from benchmarks.common.emulation import MissingError, count_between
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from keras_cbpnet import cli

CALLS, ROUNDS = 50, 41
CPU = "cortex-a72"
SCRIPT = ROOT / "benchmarks" / "common" / "bank_look.py"
GUEST = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[2], run_name="guest")["main"](*sys.argv[3:])
"""


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.bank_runtime", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=results.output_file, metavar="OUT", help="file for the results")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    record: dict[str, Any] = {
        **results.provenance("benchmarks.bank_runtime", given, results.commit(ROOT)),
        "bank": {"features": D, "slots": SLOTS, "directions": DIRECTIONS},
        "microseconds": {},
        "instructions": {},
    }
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "bank.tflite"
        file.write_bytes(first_look())
        record["bytes"] = file.stat().st_size
        compare(file)
        for runtime in ("ai_edge_litert", "tflite_runtime"):
            record["microseconds"][runtime] = timed(file, runtime)
        try:
            record["instructions"][CPU] = counted(file)
        except MissingError as reason:
            print(f"no instructions: {reason}")
    print(render(record))
    if args.json:
        results.write(args.json, record)
    return 0


def first_look() -> bytes:
    """Return a .tflite file of the first look at a full bank: `feature` [1, d] -> `scores` [1, K]."""
    import tensorflow as tf

    from keras_cbpnet.export.converter import convert_inference

    metric, sums = full_metric()
    weighted = metric.mean * metric.precision  # (K, d)
    shift = np.einsum("krd,kd->kr", metric.basis, metric.mean).reshape(1, -1)
    count = np.asarray(sums.count)
    zeros = metric.scores(np.zeros((1, D), np.float32), count, np.arange(SLOTS), near=0)[0]
    constant = -2.0 * zeros - np.sum(np.square(shift.reshape(SLOTS, -1)) * metric.gain, axis=1)  # (1, K)

    @tf.function(input_signature=[tf.TensorSpec([1, D], tf.float32, name="feature")])
    def look(feature: Any) -> dict[str, Any]:
        q = tf.matmul(feature, tf.constant(metric.whitener))  # (1, d)
        along = tf.square(tf.matmul(q, tf.constant(metric.basis.reshape(-1, D).T)) - shift)  # (1, K r)
        squared = tf.matmul(tf.square(q), tf.constant(metric.precision.T))
        squared += tf.matmul(q, tf.constant(-2.0 * weighted.T)) + constant
        squared += tf.reduce_sum(tf.reshape(along, (SLOTS, -1)) * metric.gain, axis=1)[None]
        return {"scores": -0.5 * squared}

    return convert_inference(look, quantized_weights=False, representative=None)


def compare(file: Path) -> None:
    """Raise ValueError where the file's scores are not NumPy's."""
    numpy, interpreter, _ = ways(str(file), "ai_edge_litert")
    for row in features(5):
        apart = float(np.abs(numpy(row) - interpreter(row)).max())
        if apart > 1e-2:
            raise ValueError(f"the file's scores are {apart:g} apart from NumPy's")


def timed(file: Path, runtime: str) -> dict[str, float]:
    """Return the median microseconds of processor time of a call by each way, all taking turns in one process."""
    command = [sys.executable, "-c", GUEST, str(ROOT), str(SCRIPT), runtime, str(file), str(CALLS), str(ROUNDS)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=True)
    rounds = [[float(value) for value in line.split()] for line in done.stdout.splitlines()]
    return {part: statistics.median(column) for part, column in zip(PARTS, zip(*rounds))}


def counted(file: Path) -> dict[str, float]:
    """Return the instructions of a call by each way on the emulated processor."""
    calls = 4
    marks = count_between(GUEST, [str(SCRIPT), "tflite_runtime", str(file), str(calls), "1"], CPU, len(PARTS) + 1)
    return {part: (later - earlier) / calls for part, earlier, later in zip(PARTS, marks, marks[1:])}


def render(record: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    columns = [f"{runtime}, us" for runtime in record["microseconds"]]
    columns += [f"{cpu}, million instructions" for cpu in record["instructions"]]
    rows = [
        [part]
        + [f"{found[part]:.0f}" for found in record["microseconds"].values()]
        + [f"{found[part] / 1e6:.2f}" for found in record["instructions"].values()]
        for part in PARTS
    ]
    return markdown([["a prediction", *columns], *rows])


if __name__ == "__main__":
    sys.exit(cli.run(main))
