"""The report of a conversion as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_cbpnet.export.recipes import INTEGER, RECIPES

NOISIEST = 5


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that `tflite/convert.py --report` adds: operators, targets, noise, training for quantization."""
    from keras_cbpnet.export.accelerators import describe
    from keras_cbpnet.export.depths import depth_lines

    yield "operators of backbone.tflite:"
    for row in report["operators"]["backbone.tflite"]:
        weights = f", weights {row['weights'].lower()}" if "weights" in row else ""
        yield f"  {row['count']:4} {row['op']} {row['type'].lower()}{weights}"
    yield "where they would run (nothing of it was run on such hardware):"
    for target, row in report["targets"].items():
        yield f"  {target}: {describe(row)}"
    if report["signal_to_noise"]:
        yield "signal to noise of the fake quantizers, dB (this rounding alone), worst first:"
        for row in report["signal_to_noise"][:NOISIEST]:
            yield f"  {row['place']}: {row['ratio_db']} ({row['own_db']})"
    for file, row in report["backbones"].items():
        times = ", ".join(f"{milliseconds:.2f} ms under {name}" for name, milliseconds in row["milliseconds"].items())
        yield f"{file} ({row['recipe']}): {times}"
    yield from selection_lines(report["prompt_selection"])
    yield from depth_lines(report.get("depths", {}))
    accuracy = report["accuracy"]
    runtime = next(name for name in accuracy if name != "float32")
    recipe = report["recipe"]
    calibrated = recipe if RECIPES[recipe].quantized_activations else INTEGER
    yield (
        f"accuracy lost under {runtime}: {accuracy['float32'] - accuracy[runtime]:.3f} as {recipe}, shipped, "
        f"{accuracy['float32'] - report['accuracy_without_qat']:.3f} as {calibrated} with ranges from calibration alone"
    )


def selection_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table of `prompt_selection.compare`, with shares of the cost of two passes."""
    if not rows:
        return
    yield "selection of the prompt, on this run's prompts, keys and class means taken again for every choice:"
    full = next(row for row in rows if row["name"] == "two passes")
    for row in rows:
        adds = f"{row['multiply_adds'] / 1e6:.1f} M multiply-adds ({row['multiply_adds'] / full['multiply_adds']:.0%})"
        times = ", ".join(
            f"{name} {value:.2f} ms ({value / full['milliseconds'][name]:.0%})"
            for name, value in row["milliseconds"].items()
        )
        mark = ", shipped" if row["shipped"] else ""
        yield f"  {row['name']}: accuracy {row['accuracy']:.3f}, {adds}, {times}{mark}"


def read_report(bundle: Path) -> dict[str, Any]:
    """Return report.json of a bundle that was just written."""
    report: dict[str, Any] = json.loads((bundle / "report.json").read_text(encoding="utf-8"))
    return report


def summary(bundle: Path, report: Mapping[str, Any]) -> list[str]:
    """Return what came of a conversion, in lines: sizes, accuracy, and how far files and model part."""
    accuracy = ", ".join(f"{name} {value:.3f}" for name, value in report["accuracy"].items())
    return [
        *(f"{bundle / file}: {size / 1024:.0f} KiB" for file, size in report["bytes"].items()),
        f"accuracy on {report['held_out_images']} held-out images: {accuracy}",
        f"mean cosine of the features to the model's: {report['backbone_mean_cosine']:.4f}",
        f"head against Keras over 200 steps: {report['head_max_error_200_steps']:.1e}",
    ]


def micro_line(micro: Mapping[str, Any], end: bool = False) -> str:
    """Return what a microcontroller needs; `end`: whether it predicts alone."""
    arenas = ", ".join(f"{file} {found['bytes'] / 1024:.1f} KiB" for file, found in micro["arena"].items())
    sizes = {"arena of both": "arena_bytes", "bank": "bank_bytes", "flash": "flash_bytes"}
    if end:
        del sizes["arena of both"]
    needs = ", ".join(f"{name} {micro[key] / 1024:.0f} KiB" for name, key in sizes.items())
    return f"TFLM arenas: {arenas}; on the board: {needs}"
