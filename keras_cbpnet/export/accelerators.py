"""Which operators of a backbone would run where: Edge TPU, Ethos-U, TensorFlow Lite Micro.

Reported is what a vendor's compiler says where it is installed, otherwise what a list of operators allows; the source
is named. Nothing here was run on the hardware.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from keras_cbpnet.errors import UserError
from keras_cbpnet.export.recipes import INTEGER, RECIPES
from keras_cbpnet.export.tflite_file.ops import Operator, operators

# The 40 of coral.ai/docs/edgetpu/models-intro, table "All operations supported by the Edge TPU", for the last compiler,
# 16.0 of 2021. Of the limits that the table names, `edge_tpu_row` knows the one that these graphs meet first.
EDGE_TPU = frozenset(
    """ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC
    LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1
    RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE
    STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV""".split()
)
# Operators that tensorflow/lite/micro/kernels does not have, of those this project's graphs could hold.
NOT_IN_TFLM = frozenset("BITWISE_XOR GELU ONE_HOT RIGHT_SHIFT SELECT TOPK_V2".split())
ETHOS_U = {"ethos-u55": "ethos-u55-128", "ethos-u65": "ethos-u65-256", "ethos-u85": "ethos-u85-256"}
UNVERIFIED = "Coral's published list of operators; edgetpu_compiler is not installed"
TIMEOUT = 600  # seconds


class EdgeTpuFile(NamedTuple):
    """What edgetpu_compiler made: the row of the report, and the content of the *_edgetpu.tflite."""

    row: dict[str, Any]
    model: bytes


def target_rows(model: bytes, recipe: str) -> dict[str, dict[str, Any]]:
    """Return, by target, where the operators of `model`, converted by `recipe`, would run.

    Each row holds `source`, where the numbers come from, and unless that says why there are none: `accelerated` and
    `cpu`, counts of operators; `on_cpu`, counts by name; for Ethos-U also `sram_kib`, `cycles` and `per_second`.
    """
    found = list(operators(model))
    if not RECIPES[recipe].integer:
        source = {"source": f"takes recipe {INTEGER}, not {recipe}"}
        rows = dict.fromkeys(("edge_tpu", "tflm", *ETHOS_U), source)
        return rows if RECIPES[recipe].dynamic else {**rows, "tflm": tflm_row(found)}
    rows = {"edge_tpu": edge_tpu_row(found), "tflm": tflm_row(found)}
    for target, config in ETHOS_U.items():
        try:
            rows[target] = ethos_u_row(model, config)
        except UserError as error:  # it only estimates: no reason to refuse the bundle
            rows[target] = {"source": str(error)}
    return rows


def edge_tpu_row(found: list[Operator]) -> dict[str, Any]:
    """Return what the list allows an Edge TPU at best: the compiler maps one piece, up to the first other.

    Of a CONCATENATION with a constant it takes only padding with zeros, and here the constant is the class token.
    """

    def taken(each: Operator) -> bool:
        joins_constant = each.name == "CONCATENATION" and each.constant
        return each.name in EDGE_TPU and "INT" in each.type and not joins_constant

    first = next((i for i, each in enumerate(found) if not taken(each)), len(found))
    row = _row(UNVERIFIED, found[:first], found[first:])
    if first < len(found):
        row["first_on_cpu"] = found[first].name
    return row


def tflm_row(found: list[Operator]) -> dict[str, Any]:
    """Return which operators TensorFlow Lite Micro's interpreter has; there, all run on the microcontroller's core."""
    missing = sorted({each.name for each in found if each.name in NOT_IN_TFLM or each.name.startswith("CUSTOM")})
    return {**_row("operators that TFLM lacks", [], found), "missing": missing}


def _row(source: str, accelerated: list[Operator], cpu: list[Operator]) -> dict[str, Any]:
    names = Counter(each.name for each in cpu)
    return {"source": source, "accelerated": len(accelerated), "cpu": len(cpu), "on_cpu": dict(sorted(names.items()))}


def edge_tpu_compiler() -> str | None:
    """Return the path of edgetpu_compiler, or None where it is not installed."""
    return shutil.which("edgetpu_compiler")


def compile_edge_tpu(model: bytes, compiler: str) -> EdgeTpuFile:
    """Run edgetpu_compiler on `model`.

    Raises:
        UserError: it fails, or leaves no file or no count of operators.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "backbone.tflite").write_bytes(model)
        log = _run([compiler, "--show_operations", "--out_dir", name, str(folder / "backbone.tflite")])
        compiled = folder / "backbone_edgetpu.tflite"
        if not compiled.is_file():
            raise UserError(f"{compiler} wrote no backbone_edgetpu.tflite ({_last(log)}); take it off the PATH")
        return EdgeTpuFile(edge_tpu_log(log, compiler), compiled.read_bytes())


def edge_tpu_log(log: str, compiler: str = "edgetpu_compiler") -> dict[str, Any]:
    """Return the row that the output of edgetpu_compiler amounts to; UserError where it lists no operators."""
    version = re.search(r"Edge TPU Compiler version (\S+)", log)
    on_cpu: Counter[str] = Counter()
    accelerated, reasons = 0, set()
    for line in log.splitlines():
        if match := re.fullmatch(r"([A-Z][A-Z0-9_]+)\s+(\d+)\s+(\S.*?)\s*", line):
            operator, count, status = match[1], int(match[2]), match[3]
            if status == "Mapped to Edge TPU":
                accelerated += count
            else:
                on_cpu[operator] += count
                reasons.add(status)
    if not accelerated and not on_cpu:
        raise UserError(f"{compiler} listed no operators ({_last(log)}); take it off the PATH")
    row = {"source": f"edgetpu_compiler {version[1]}" if version else "edgetpu_compiler"}
    counts = {"accelerated": accelerated, "cpu": on_cpu.total(), "on_cpu": dict(sorted(on_cpu.items()))}
    return {**row, **counts, "reasons": sorted(reasons)}


def ethos_u_row(model: bytes, config: str) -> dict[str, Any]:
    """Return what Arm's compiler Vela says of an accelerator configuration; without Vela, that it is not installed."""
    vela = shutil.which("vela") or shutil.which("vela", path=str(Path(sys.executable).parent))
    if not vela:
        return {"source": "Vela is not installed (pip install ethos-u-vela, into a separate environment)"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "backbone.tflite").write_bytes(model)
        arguments = ["--accelerator-config", config, "--output-dir", name, str(folder / "backbone.tflite")]
        log = _run([vela, *arguments])
        summaries = list(folder.glob("*_summary_*.csv"))
        if len(summaries) != 1:
            raise UserError(
                f"{vela} wrote {len(summaries)} summaries instead of one ({_last(log)}); take it off the PATH"
            )
        left = [each.name for each in operators((folder / "backbone_vela.tflite").read_bytes())]
        return vela_row(log, summaries[0].read_text(encoding="utf-8"), left, config)


def vela_row(log: str, summary: str, left: list[str], config: str) -> dict[str, Any]:
    """Return the row for what Vela printed, its summary CSV and the operators of the file that it wrote.

    The operators that Vela counts are those of its internal graph.
    """
    counts = {side: re.search(rf"^{side} operators = (\d+)", log, re.MULTILINE) for side in ("NPU", "CPU")}
    values = next(csv.DictReader(summary.splitlines()), None)
    if values is None or not all(counts.values()):
        raise UserError(f"vela for {config} printed no count of operators ({_last(log)}); take it off the PATH")
    npu, cpu = (int(match[1]) for match in counts.values() if match)
    return {
        "source": f"Vela for {config}, {values['system_config']}, {values['memory_mode']}",
        "accelerated": npu,
        "cpu": cpu,
        "on_cpu": dict(sorted(Counter(name for name in left if name != "CUSTOM:ethos-u").items())),
        "sram_kib": float(values["sram_memory_used"]),
        "cycles": int(float(values["cycles_total"])),
        "per_second": float(values["inferences_per_second"]),
    }


def describe(row: dict[str, Any]) -> str:
    """Return a row as one line of text."""
    if "cpu" not in row:
        return str(row["source"])
    if "missing" in row:
        lacks = ", ".join(row["missing"])
        known = f"lacks {lacks}" if lacks else f"is known to lack none of the {row['cpu']} operators"
        return f"TFLM {known}; all on the microcontroller's core"
    total = row["accelerated"] + row["cpu"]
    text = f"{row['accelerated']} of {total} operators accelerated ({row['accelerated'] / total:.1%})"
    if "first_on_cpu" in row:
        text += f" at most, then {row['first_on_cpu']} and all after it on the CPU"
    elif row["on_cpu"]:
        text += f", on the CPU {', '.join(f'{count} {name}' for name, count in row['on_cpu'].items())}"
    if "per_second" in row:
        text += f"; {row['sram_kib']:.0f} KiB SRAM, {row['cycles']:,} cycles, {row['per_second']:.0f}/s estimated"
    return f"{text} [{row['source']}]"


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{command[0]} failed ({error}); take it off the PATH") from error
    log = done.stdout + done.stderr
    if done.returncode:
        raise UserError(f"{command[0]} failed ({_last(log)}); take it off the PATH")
    return log


def _last(log: str) -> str:
    return next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "it printed nothing")[:200]
