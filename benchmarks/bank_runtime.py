"""The bank's prediction in NumPy, and as a .tflite file of builtin operators.

    python -m benchmarks.bank_runtime --json benchmarks/results/bank_runtime.json

A prediction looks at all slots, which are products and sums, and then a second time at the likeliest four: a linear
system of 64 unknowns and its determinant, for which TensorFlow Lite has no operator; a frozen classifier eliminates
them one by one (`keras_cbpnet.export.frozen`). Here the statistics are constants of the file, as they are there; as
variables they would have to be set again after every renewal. Processor time of a call on one x86-64 thread, the median
over rounds in which all take turns, and instructions of an emulated Cortex-A72.
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
from benchmarks.common.bank_look import DIRECTIONS, PARTS, SLOTS, D, features, full_bank, ways
from benchmarks.common.emulation import MissingError, count_between
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from firmware_host.shared.bank.bank import TEMPERATURE
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
        files = written(Path(name))
        record["bytes"] = [Path(file).stat().st_size for file in files]
        compare(files)
        for runtime in ("ai_edge_litert", "tflite_runtime"):
            record["microseconds"][runtime] = timed(files, runtime)
        try:
            record["instructions"][CPU] = counted(files)
        except MissingError as reason:
            print(f"no instructions: {reason}")
    print(render(record))
    if args.json:
        results.write(args.json, record)
    return 0


def written(folder: Path) -> list[str]:
    """Write files of the first look at a full bank and of both; `feature` [1, d] -> `scores` [1, K]."""
    import tensorflow as tf

    from keras_cbpnet.export.converter import convert_inference
    from keras_cbpnet.export.frozen import scores

    bank = full_bank()
    files = []
    for looks in (scores.first_look, scores.bank):

        @tf.function(input_signature=[tf.TensorSpec([1, D], tf.float32, name="feature")])
        def look(feature: Any, looks: Any = looks) -> dict[str, Any]:
            return {"scores": looks(bank, SLOTS, feature)}

        path = folder / f"{looks.__name__}.tflite"
        path.write_bytes(convert_inference(look, quantized_weights=False, representative=None))
        files.append(str(path))
    return files


def compare(files: Sequence[str]) -> None:
    """Raise ValueError where what the files say is not what NumPy says."""
    first, first_file, both, both_file = ways(files, "ai_edge_litert")
    for row in features(5):
        likely = np.exp(TEMPERATURE * (both(row) - both(row).max()))
        for here, there in ((first(row), first_file(row)), (likely / likely.sum(), both_file(row))):
            apart = float(np.abs(here - there).max())
            if apart > 1e-2:
                raise ValueError(f"a file's scores are {apart:g} apart from NumPy's")


def timed(files: Sequence[str], runtime: str) -> dict[str, float]:
    """Return the median microseconds of processor time of a call by each way, all taking turns in one process."""
    command = [sys.executable, "-c", GUEST, str(ROOT), str(SCRIPT), runtime, str(CALLS), str(ROUNDS), *files]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=True)
    rounds = [[float(value) for value in line.split()] for line in done.stdout.splitlines()]
    return {part: statistics.median(column) for part, column in zip(PARTS, zip(*rounds))}


def counted(files: Sequence[str]) -> dict[str, float]:
    """Return the instructions of a call by each way on the emulated processor."""
    calls = 4
    marks = count_between(GUEST, [str(SCRIPT), "tflite_runtime", str(calls), "1", *files], CPU, len(PARTS) + 1)
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
