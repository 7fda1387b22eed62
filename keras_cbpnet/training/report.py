"""report.html of a run: one self-contained file with its metrics, plots and configuration."""

# T tasks

from __future__ import annotations

import html
import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_report"]

HEADLINES = {
    "average_accuracy": "average accuracy",
    "average_incremental_accuracy": "average incremental accuracy",
    "forgetting": "forgetting",
    "backward_transfer": "backward transfer",
    "learning_accuracy": "learning accuracy",
}
COLOURS = ("#3b82c4", "#e07b39", "#3a9d6e", "#b0579e")  # legible on white and on black
INK = "#010203"  # stands for the page's own text colour until the SVG is written


def write_report(
    path: Union[str, os.PathLike[str]],
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
) -> None:
    """Writes the report; an existing file is replaced at once, never left half written.

    Args:
        path: The file, usually RUN/report.html.
        config: The run's configuration, as in config.json; may be nested.
        metrics: As in metrics.json: the result of `metrics.summarize`, and optionally `plasticity`, a list with one
            dictionary of numbers per task (such as dead_unit_share, effective_rank, units_replaced) or a dictionary of
            lists with one number per task.
        history: One dictionary per epoch, as in log.csv; `loss` (and `val_loss`) is drawn, `task` marks the tasks.
    """
    target = Path(path)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(_page(config, metrics, history), encoding="utf-8")
    temporary.replace(target)


def _page(config: Mapping[str, Any], metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    matrix = np.array(metrics["accuracy_matrix"], dtype=np.float64)  # (T, T), NaN above the diagonal
    cards = "".join(
        f"<div><b>{metrics[key]:.3f}</b><span>{label}</span></div>"
        for key, label in HEADLINES.items()
        if key in metrics
    )
    figures = [
        _figure(
            "Accuracy in % on task j after task i",
            partial(_draw_matrix, matrix=matrix),
            min(6.0, 2.2 + 0.3 * len(matrix)),
        ),
        _figure("Average accuracy over the classes seen so far", partial(_draw_average, matrix=matrix)),
    ]
    if any("loss" in row for row in history):
        figures.append(_figure("Training loss", partial(_draw_loss, history=history)))
    for name, values in _plasticity(metrics.get("plasticity")).items():
        figures.append(_figure(name.replace("_", " ").capitalize(), partial(_draw_series, name=name, values=values)))
    title = html.escape(str(config.get("name", "CBPNet run")))
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in _flatten(config)
    )
    return _PAGE.format(title=title, cards=cards, figures="\n".join(figures), rows=rows)


def _draw_matrix(axes: Axes, matrix: np.ndarray) -> None:
    tasks = len(matrix)
    axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1, aspect="equal")
    if tasks <= 20:  # beyond that the numbers would not be legible
        for i, j in zip(*np.tril_indices(tasks)):
            if math.isfinite(matrix[i, j]):
                colour = "#111111" if matrix[i, j] > 0.6 else "#ffffff"
                axes.text(j, i, f"{100 * matrix[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=9)
    ticks = range(0, tasks, max(1, tasks // 10))
    axes.set(xlabel="task tested (j)", ylabel="after task (i)", xticks=ticks, yticks=ticks)
    axes.set_xticklabels([str(t + 1) for t in ticks])
    axes.set_yticklabels([str(t + 1) for t in ticks])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _draw_average(axes: Axes, matrix: np.ndarray) -> None:
    tasks = np.arange(1, len(matrix) + 1)
    average = [np.mean(matrix[i, : i + 1]) for i in range(len(matrix))]
    axes.plot(tasks, average, marker="o", color=COLOURS[0], label="average of the tasks so far")
    axes.plot(tasks, np.diagonal(matrix), marker="s", linestyle="--", color=COLOURS[1], label="the task just learned")
    axes.set(xlabel="after task", ylabel="accuracy", ylim=(0, 1.02))
    _integer_ticks(axes)
    axes.legend()


def _draw_loss(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    starts = [i for i in range(len(history)) if i == 0 or history[i].get("task") != history[i - 1].get("task")]
    keys = [key for key in ("loss", "val_loss") if any(key in row for row in history)]
    for colour, key in zip(COLOURS, keys):
        values = [_number(row.get(key)) for row in history]
        for start, stop in zip(starts, [*starts[1:], len(values)]):  # a new task is a new curve
            label = key if start == 0 else None
            axes.plot(range(start + 1, stop + 1), values[start:stop], color=colour, label=label, marker=".")
    for start in starts[1:]:
        axes.axvline(start + 0.5, color=INK, linewidth=0.8, linestyle=":", alpha=0.6)
    axes.set(xlabel="epoch over all tasks (dotted: next task)", ylabel="loss")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    _integer_ticks(axes)
    if len(keys) > 1:
        axes.legend()


def _draw_series(axes: Axes, name: str, values: Sequence[float]) -> None:
    axes.plot(np.arange(1, len(values) + 1), values, marker="o", color=COLOURS[2])
    axes.set(xlabel="after task", ylabel=name.replace("_", " "))
    axes.set_ylim(bottom=0, top=1.02 if name.endswith("_share") else max(1.0, 1.1 * np.nanmax(values)))
    _integer_ticks(axes)


def _integer_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _figure(title: str, draw: Callable[[Any], None], height: float = 3.2) -> str:
    """Returns one plot as an HTML figure with inline SVG in the page's own text colour and font."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": title,  # the same run gives the same bytes
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(5.6, height), layout="constrained")
        FigureCanvasSVG(figure)  # no global state, no display
        draw(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)  # HTML needs none; nothing in the page names an outside address
    svg = svg.replace(INK, "currentColor").replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{svg}</figure>"


def _plasticity(values: Any) -> dict[str, list[float]]:
    """Returns per-task diagnostics as name -> one number per task, whichever way round they were given."""
    if not values:
        return {}
    if isinstance(values, Mapping):
        series = {str(key): list(row) for key, row in values.items() if isinstance(row, (list, tuple))}
    else:
        keys = list(dict.fromkeys(key for row in values for key in row if key != "task"))
        series = {key: [row.get(key) for row in values] for key in keys}
    numbers = {key: [_number(value) for value in row] for key, row in series.items()}
    return {key: row for key, row in numbers.items() if any(math.isfinite(value) for value in row)}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # a missing or empty cell of the log
        return math.nan


def _flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return rows


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #d0d7de; --card: #f6f8fa; }}
@media (prefers-color-scheme: dark) {{ :root {{ --line: #3d444d; --card: #1b2027; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; }}
.cards div {{ background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; }}
.cards b {{ display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums; }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr));
  gap: 1.5rem; margin-top: 2rem; }}
figure {{ margin: 0; }} figcaption {{ font-weight: 600; margin-bottom: .25rem; }}
figure svg {{ width: 100%; height: auto; max-height: 30rem; }}
svg text {{ font-family: system-ui, sans-serif !important; }}
table {{ border-collapse: collapse; }}
th, td {{ border-top: 1px solid var(--line); padding: .2rem .8rem .2rem 0; text-align: left; }}
th {{ font-weight: 400; opacity: .75; }} td {{ font-family: ui-monospace, monospace; word-break: break-word; }}
</style>
</head>
<body>
<h1>{title}</h1>
<div class="cards">{cards}</div>
<div class="figures">
{figures}
</div>
<h2>Configuration</h2>
<table>{rows}</table>
</body>
</html>
"""
