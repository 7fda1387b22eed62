"""A page that compares several methods, each run with several seeds."""

# S seeds, T tasks

from __future__ import annotations

import html
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import NDArray

from firmware_host.shared.page import write_page
from keras_cbpnet.metrics import FIRST, LAST, over_seeds
from keras_cbpnet.training.report.figures import (
    COLOURS,
    DASHES,
    DIAGNOSTICS,
    MARKERS,
    Panel,
    averaged,
    dots,
    draw_figure,
    fit,
    points,
    smooth,
    task_axis,
)
from keras_cbpnet.training.report.numbers import average_so_far, is_drifting, plasticity_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["write_comparison"]

# Metric -> heading of its column.
INCREMENTAL = {
    "average_accuracy": "average accuracy, %",
    "average_incremental_accuracy": "average incremental accuracy, %",
    "forgetting": "forgetting, points",
    "learning_accuracy": "learning accuracy, %",
}
DRIFTING = {"first_20": "first {first} tasks, %", "last_100": "last {last} tasks, %"}

Summary = dict[str, dict[str, Optional[float]]]


def write_comparison(path: str | os.PathLike[str], title: str, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write one page with a table and plots of several methods on the same stream, best first.

    Args:
        path: the file, .html; one that exists is replaced at once, never left half written.
        title: of the page, plain text.
        runs: a row's name, such as "cbpnet", to its metrics, one dictionary per seed as `write_report` takes it. Up to
            twelve rows get lines that differ.

    Raises:
        ValueError: there are no rows; a row has no seeds, or seeds with different numbers of tasks; or some runs are
            class-incremental and others drifting. Nothing is written.
    """
    drifting, tasks = _check(runs)
    summaries = {name: over_seeds(seeds) for name, seeds in runs.items()}
    first = "last_100" if drifting else "average_accuracy"
    names = sorted(runs, key=lambda name: -_mean(summaries[name], first, -math.inf))
    runs = {name: runs[name] for name in names}
    columns = {key: text.format(first=min(FIRST, tasks), last=min(LAST, tasks)) for key, text in DRIFTING.items()}
    table = _table(columns if drifting else INCREMENTAL, {name: (summaries[name], len(runs[name])) for name in names})

    if drifting:
        caption, label = "Accuracy on the task just learned, by method" + averaged(tasks), "accuracy, %"
        curves = {name: [smooth(np.array(seed["learning_curve"])) for seed in seeds] for name, seeds in runs.items()}
    else:
        caption, label = "Average accuracy over the classes seen so far, by method", "average accuracy, %"
        curves = {name: [average_so_far(seed) for seed in seeds] for name, seeds in runs.items()}
    accuracy = {Panel(label): {name: 100 * np.stack(rows) for name, rows in curves.items()}}
    figures = [draw_figure(caption, partial(_draw_panels, panels=accuracy, names=names), 4.4, wide=True)]
    diagnostics = _diagnostics(runs)
    if diagnostics:
        draw = partial(_draw_panels, panels=diagnostics, names=names)
        caption, height = "Plasticity over the stream, by method" + averaged(tasks), 1.2 + 2.4 * len(diagnostics)
        figures.append(draw_figure(caption, draw, height, wide=True))
    write_page(path, title, table + "\n" + "\n".join(figures))


def _check(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[bool, int]:
    """Return whether the streams are drifting, and the length of the longest."""
    if not runs:
        raise ValueError("no runs given; name at least one row")
    kinds: set[bool] = set()
    lengths: set[int] = set()
    for name, seeds in runs.items():
        if not seeds:
            raise ValueError(f"row {name!r} has no runs; give one dictionary of metrics per seed")
        kinds |= {is_drifting(seed) for seed in seeds}
        tasks = {len(seed["learning_curve" if is_drifting(seed) else "accuracy_matrix"]) for seed in seeds}
        if len(tasks) > 1:
            raise ValueError(f"row {name!r} has seeds with {sorted(tasks)} tasks; they must have the same number")
        lengths |= tasks
    if len(kinds) > 1:
        raise ValueError("some runs are class-incremental and others drifting; write one page for each kind")
    return kinds.pop(), max(lengths)


def _table(columns: Mapping[str, str], rows: Mapping[str, tuple[Summary, int]]) -> str:
    """Return the table and its note as HTML; the best value of each column, as it is printed, is marked."""
    best = {}
    for key in columns:
        values = [round(100 * _mean(summary, key), 1) for summary, _ in rows.values() if key in summary]
        if len(values) > 1:
            best[key] = min(values) if key == "forgetting" else max(values)
    lines = []
    for name, (summary, seeds) in rows.items():
        cells = ""
        for key in columns:
            marked = key in summary and round(100 * _mean(summary, key), 1) == best.get(key)
            cells += f'<td class="best">{_cell(summary, key)}</td>' if marked else f"<td>{_cell(summary, key)}</td>"
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{cells}<td>{seeds}</td></tr>')
    heads = "".join(f'<th scope="col">{text}</th>' for text in ["method", *columns.values(), "seeds"])
    note = "Mean and, with several seeds, standard deviation of the sample (±; a shaded band in the plots). "
    note += "Best of each column in bold" + ("; of forgetting, the least." if "forgetting" in columns else ".")
    return (
        f'<div class="runs"><table><thead><tr>{heads}</tr></thead>\n<tbody>{"".join(lines)}</tbody></table></div>\n'
        f'<p class="note">{note}</p>'
    )


def _cell(summary: Summary, key: str) -> str:
    if key not in summary:
        return "-"
    std = summary[key]["std"]
    return f"{100 * _mean(summary, key):.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _mean(summary: Summary, key: str, missing: float = math.nan) -> float:
    mean = summary[key]["mean"] if key in summary else None
    return missing if mean is None else mean


def _diagnostics(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[Panel, dict[str, NDArray[np.float64]]]:
    """Return vertical axis -> row -> curves, [S, T] in %, of what was measured."""
    measured = {name: [plasticity_curves(seed) for seed in seeds] for name, seeds in runs.items()}
    panels = {}
    for key, axis in DIAGNOSTICS.items():
        rows = {name: [smooth(100 * seed[key]) for seed in seeds if key in seed] for name, seeds in measured.items()}
        if any(rows.values()):
            panels[axis] = {name: np.stack(curves) for name, curves in rows.items() if curves}
    return panels


def _draw_panels(
    figure: Figure,
    panels: Mapping[Panel, Mapping[str, NDArray[np.float64]]],
    names: Sequence[str],
) -> None:
    """Draw one panel above the other, a line for each row, and one legend beside them in the order of the rows.

    Args:
        figure: empty.
        panels: vertical axis -> row -> curves, [S, T] in %.
        names: all rows of the page, so that a row keeps its kind of line from figure to figure.
    """
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    lines = {}
    for panel, (axis, rows) in zip(axes, panels.items()):
        for name, curves in rows.items():
            lines[name] = _draw_row(panel, curves, names.index(name))
        fit(panel, *axis)
    task_axis(axes[-1], "after task")
    shown = [name for name in names if name in lines]
    texts = [textwrap.fill(name, 28) for name in shown]
    figure.legend([lines[name] for name in shown], texts, loc="outside right upper", handlelength=3.5)


def _draw_row(axes: Axes, curves: NDArray[np.float64], index: int) -> Any:
    """Draw mean and one standard deviation of [S, T] curves and return the line."""
    mean = curves.mean(axis=0)
    at = points(mean)
    colour = COLOURS[index % len(COLOURS)]
    style = DASHES[index // len(COLOURS) % len(DASHES)]
    if len(curves) > 1:
        std = curves.std(axis=0, ddof=1)
        axes.fill_between(at + 1, (mean - std)[at], (mean + std)[at], color=colour, alpha=0.15, linewidth=0)
    marker = dots(len(mean), MARKERS[index % len(MARKERS)])
    return axes.plot(at + 1, mean[at], color=colour, linestyle=style, linewidth=1.8, **marker)[0]
