"""Results as text: Markdown tables that also read well in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NOTES = """\
Each image on its own, among all classes seen so far, without a task id. Average: over the tasks seen. Forgetting: best
accuracy so far minus the last, averaged over all tasks but the newest; moments before the host's last task are those of
host QAT in every row. host QAT is the network as trained, through int8 fake quantizers; host float32 is the same
weights with the quantizers off, not trained again."""


def render(result: dict[str, Any]) -> str:
    """Return the tables of a result file: accuracy, files, speed and memory, seconds."""
    mean, std = result["mean"], result["std"]
    seeds = result["seeds"]
    who = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean ± standard deviation of seeds {', '.join(map(str, seeds))}"
    sections = [
        f"Accuracy in %, {who}",
        _accuracy(result),
        NOTES,
        f"Bundle as shipped minus host float32: {_cell(mean, std, 'shipped_minus_float32', 100, 2)} points",
        _files(mean, std),
        _speed(result),
        _seconds(mean, std),
    ]
    return "\n" + "\n\n".join(sections) + "\n"


def _accuracy(result: dict[str, Any]) -> str:
    mean, std = result["mean"], result["std"]
    tasks = result["results"][0]["tasks"]
    # The order of the classes is the seed's.
    classes = [f": {' '.join(task['classes'])}" if len(result["seeds"]) == 1 else "" for task in tasks]
    table = [["", *(f"task {i + 1}{text}" for i, text in enumerate(classes)), "average", "forgetting"]]
    for name, known in mean["accuracy"].items():
        cells = [_cell(known, std["accuracy"][name], i, 100, 1) if i < len(known) else "-" for i in range(len(tasks))]
        summary = [_cell(mean[key], std[key], name, 100, 1) for key in ("average_accuracy", "forgetting")]
        table.append([name, *cells, *summary])
    return markdown(table)


def _files(mean: dict[str, Any], std: dict[str, Any]) -> str:
    rows = [[name, _cell(mean["bytes"], std["bytes"], name, 1, 0)] for name in mean["bytes"]]
    return markdown([["file", "bytes"], *rows])


def _speed(result: dict[str, Any]) -> str:
    mean, std = result["mean"], result["std"]
    head = ["runtime", "self-test, quanta", "head error", "ms per image", "ms per training step", "peak memory, MiB"]
    table = [head]
    for runtime, bench in mean["bench"].items():
        deviation, tests = std["bench"][runtime], [record["selftest"][runtime] for record in result["results"]]
        table.append(
            [
                runtime,
                f"{max(test['backbone_max_quanta'] for test in tests):g}",
                f"{max(test['head_max_error'] for test in tests):.0e}",
                _cell(bench, deviation, "predict_ms", 1, 2),
                _cell(bench, deviation, "train_ms", 1, 2),
                _cell(bench, deviation, "peak_memory_mb", 1, 0),
            ]
        )
    first = next(iter(result["results"][0]["bench"].values()))
    peaks = [task["peak_memory_mb"] for record in result["results"] for task in record["learn"]]
    peak = "unknown" if None in peaks else f"{max(peaks):.0f} MiB"
    how = f"{result['machine']['processor']}, {first['threads']} thread, median of {first['repeat']} calls"
    return f"{markdown(table)}\n\nMeasured on {how}. Peak memory of the device process while it learned: {peak}."


def _seconds(mean: dict[str, Any], std: dict[str, Any]) -> str:
    rows = [[name, _cell(mean["seconds"], std["seconds"], name, 1, 1)] for name in mean["seconds"]]
    return markdown([["stage", "seconds"], *rows, ["all", f"{sum(mean['seconds'].values()):.1f}"]])


def _cell(mean: Any, std: Any, key: Any, scale: float, digits: int) -> str:
    """Return `mean[key]` times `scale` with its deviation where there is one; `-` for what was not measured."""
    if mean[key] is None:
        return "-"
    text = f"{mean[key] * scale:,.{digits}f}"
    return text if std[key] is None else f"{text} ± {std[key] * scale:,.{digits}f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of `rows`, the first its header; the first column left-aligned, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]
        for row in (rows[0], rule, *rows[1:])
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
