"""report.html of a run: its metrics, plots and configuration."""

# T tasks

from __future__ import annotations

import html
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from firmware_host.shared.page import cards, grid, write_page
from keras_cbpnet.metrics import FIRST, LAST
from keras_cbpnet.training.report.figures import (
    COLOURS,
    DIAGNOSTICS,
    INK,
    MANY,
    MARKERS,
    averaged,
    dots,
    draw_figure,
    fit,
    legend_above,
    points,
    smooth,
    task_axis,
)
from keras_cbpnet.training.report.numbers import average_so_far, is_drifting, number, plasticity_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["write_report"]

LEGIBLE = 15  # tasks up to which the heat map's numbers can be read


def write_report(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
) -> None:
    """Write the report; an existing file is replaced at once, never left half written.

    Args:
        path: the file, usually RUN/report.html.
        config: the run's configuration, as in config.json; may be nested; `name` becomes the title.
        metrics: as in metrics.json: the result of `metrics.summarize`, or for a drifting stream that of
            `metrics.summarize_drifting`; and optionally `plasticity`, a list with one dictionary of numbers per task or
            a dictionary of lists with one number per task: dead_unit_share, effective_rank (as a share of the units)
            and units_replaced.
        history: one dictionary per epoch, as in log.csv; `loss` is drawn, a line for each `part` of the training,
            and `task` marks the tasks.
    """
    diagnostics = plasticity_curves(metrics)
    figures = []
    if is_drifting(metrics):
        learned = np.array(metrics["learning_curve"], dtype=np.float64)
    else:
        matrix = np.array(metrics["accuracy_matrix"], dtype=np.float64)  # (T, T), NaN above the diagonal
        learned, average = np.diagonal(matrix), average_so_far(metrics)
        figures.append(draw_figure("Accuracy on task j after task i, in %", partial(_draw_matrix, matrix=matrix), 4.2))
        draw = partial(_draw_average, average=average, learned=learned)
        figures.append(draw_figure("Average accuracy over the classes seen so far", draw, 4.2))
    if is_drifting(metrics) or any(name in diagnostics for name in DIAGNOSTICS):
        draw = partial(_draw_plasticity, learned=learned, diagnostics=diagnostics)
        figures.append(draw_figure("Plasticity over the stream", draw, 5.4))
    if any(math.isfinite(number(row.get("loss"))) for row in history):
        figures.append(draw_figure("Training loss", partial(_draw_loss, history=history), 3.6))
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in _flatten(config)
    )
    headlines = cards(_headlines(metrics, diagnostics))
    body = f'{headlines}\n{grid(figures)}\n<h2>Configuration</h2>\n<table class="config">{rows}</table>'
    write_page(path, str(config.get("name", "CBPNet run")), body)


def _headlines(
    metrics: Mapping[str, Any], diagnostics: Mapping[str, NDArray[np.float64]]
) -> list[tuple[str, str, str]]:
    labels = {
        "average_accuracy": ("%", "average accuracy"),
        "average_incremental_accuracy": ("%", "average incremental accuracy"),
        "forgetting": ("points", "forgetting"),
        "backward_transfer": ("points", "backward transfer"),
        "learning_accuracy": ("%", "learning accuracy"),
    }
    if is_drifting(metrics):
        tasks = len(metrics["learning_curve"])
        labels = {
            "learning_accuracy": ("%", "mean accuracy on the task just learned"),
            "first_20": ("%", f"same, first {min(FIRST, tasks)} tasks"),
            "last_100": ("%", f"same, last {min(LAST, tasks)} tasks"),
        }
    shown = [(f"{100 * metrics[key]:.1f}", unit, label) for key, (unit, label) in labels.items() if key in metrics]
    if "units_replaced" in diagnostics:
        shown.append((f"{np.nansum(diagnostics['units_replaced']):.0f}", "", "units replaced"))
    return shown


def _draw_matrix(figure: Figure, matrix: NDArray[np.float64]) -> None:
    axes, tasks = figure.add_subplot(), len(matrix)
    image = axes.imshow(100 * matrix, cmap="viridis", vmin=0, vmax=100, aspect="equal", interpolation="nearest")
    if tasks <= LEGIBLE:
        for i, j in zip(*np.tril_indices(tasks)):
            colour = "#111111" if matrix[i, j] > 0.55 else "#ffffff"
            axes.text(j, i, f"{100 * matrix[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=9)
    else:
        figure.colorbar(image, ax=axes, label="accuracy, %", shrink=0.8).outline.set_visible(False)
    step = -(-tasks // 10)
    ticks = [0] if tasks == 1 else list(range(step - 1, tasks, step))
    names = [str(tick + 1) for tick in ticks]
    axes.set(xlabel="task tested, j", ylabel="after task, i", xticks=ticks, yticks=ticks)
    axes.set(xticklabels=names, yticklabels=names)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    axes.tick_params(length=0)


def _draw_average(figure: Figure, average: NDArray[np.float64], learned: NDArray[np.float64]) -> None:
    axes = figure.add_subplot()
    tasks = np.arange(1, len(average) + 1)
    axes.plot(tasks, 100 * average, color=COLOURS[0], label="all tasks so far", **dots(len(tasks), MARKERS[0]))
    _draw_noisy(axes, 100 * learned, 1, "the task just learned" + averaged(len(tasks)), linestyle="--")
    task_axis(axes, "after task")
    fit(axes, "accuracy, %", bottom=0, least=100)
    legend_above(figure)


def _draw_plasticity(
    figure: Figure, learned: NDArray[np.float64], diagnostics: Mapping[str, NDArray[np.float64]]
) -> None:
    names = [name for name in DIAGNOSTICS if name in diagnostics]
    ratios = [2, *[1] * len(names)]
    panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    _draw_noisy(panels[0], 100 * learned, 0)
    fit(panels[0], "accuracy on the task\njust learned, %", least=10)
    for index, name in enumerate(names, start=1):
        _draw_noisy(panels[index], 100 * diagnostics[name], index)
        label, bottom = DIAGNOSTICS[name]
        fit(panels[index], label.replace(", % of", ",\n% of"), bottom)
    task_axis(panels[-1], "after task" + averaged(len(learned)))


def _draw_noisy(axes: Axes, curve: NDArray[np.float64], index: int, label: str = "", linestyle: str = "-") -> None:
    """Draw one number per task; if they are many, the moving average over the thin curve itself."""
    if len(curve) > MANY:
        at = points(curve, len(curve))
        axes.plot(at + 1, curve[at], color=COLOURS[index], linewidth=0.6, alpha=0.4)
    average = smooth(curve)
    at = points(average)
    settings = dots(len(curve), MARKERS[index])
    axes.plot(at + 1, average[at], color=COLOURS[index], linestyle=linestyle, label=label, **settings)


def _draw_loss(figure: Figure, history: Sequence[Mapping[str, Any]]) -> None:
    axes = figure.add_subplot()
    tasks = dict.fromkeys(row.get("task") for row in history)
    curves: dict[Any, dict[Any, list[tuple[int, float]]]] = {}  # part -> task -> (epoch, loss)
    for epoch, row in enumerate(history, start=1):
        pieces = curves.setdefault(row.get("part"), {task: [] for task in tasks})
        pieces[row.get("task")].append((epoch, number(row.get("loss"))))
    for index, (part, pieces) in zip(itertools.cycle(range(len(COLOURS))), curves.items()):
        if len(tasks) > MANY:
            last = np.array([piece[-1][1] if piece else math.nan for piece in pieces.values()])
            _draw_noisy(axes, last, index, str(part))
        else:
            for piece in pieces.values():  # a new task is a new curve
                axes.plot(*zip(*piece), color=COLOURS[index], marker=".")
            axes.plot([], [], color=COLOURS[index], marker=".", label=str(part))
    if len(tasks) > MANY:
        task_axis(axes, "after task" + averaged(len(tasks)))
    else:
        starts = [i for i in range(1, len(history)) if history[i].get("task") != history[i - 1].get("task")]
        for start in starts:
            axes.axvline(start + 0.5, color=INK, linewidth=0.8, linestyle=":", alpha=0.6)
        task_axis(axes, "epoch over all tasks" + (" (dotted: next task)" if starts else ""))
    axes.set_ylabel("loss in a task's last epoch,\nnats per image" if len(tasks) > MANY else "loss, nats per image")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if len(curves) > 1:
        legend_above(figure)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return rows
