"""Figures as inline SVG in the page's own text colour and font, and the lines in them."""

# T tasks

from __future__ import annotations

import html
import io
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "DASHES",
    "DIAGNOSTICS",
    "INK",
    "MANY",
    "MARKERS",
    "Panel",
    "averaged",
    "dots",
    "draw_figure",
    "fit",
    "legend_above",
    "points",
    "smooth",
    "task_axis",
    "window",
]

# Each has a contrast of at least 3 to white and to #121212, and stays apart from the others under red, green and blue
# blindness (CIE76 distance of at least 16, Machado et al. 2009).
COLOURS = ("#4477dd", "#cc8400", "#0f9b8e", "#bb3344")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)))  # solid, dashed, dotted: with the colours, twelve kinds of line
MARKERS = ("o", "s", "^", "D")
INK = "#010203"  # stands for the page's own text colour until the SVG is written
MANY = 40  # points; beyond that a line has no markers, and a noisy one gets a moving average
DRAWN = 250  # points that a moving average is drawn with


class Panel(NamedTuple):
    """A vertical axis in %: its label, with the unit, and where it begins, as `fit` takes them."""

    label: str
    bottom: float | None = None


DIAGNOSTICS = {  # those of the plasticity that are drawn
    "dead_unit_share": Panel("dead units, %", 0.0),
    "effective_rank": Panel("effective rank, % of units"),
}


def draw_figure(title: str, draw: Callable[[Figure], None], height: float, wide: bool = False) -> str:
    """Draw a plot and return it as an HTML figure with a caption; the same input gives the same bytes.

    Args:
        title: plain text: the caption, and the label for those who do not see the plot. Different for each figure of
            a page.
        draw: called with the empty Matplotlib figure.
        height: in inches, of a width of 5.6, or 11 if wide.
        wide: as wide as the page rather than half of it.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where its own folders cannot be written
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": title,
        "text.parse_math": False,  # a dollar sign in a name is a dollar sign
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.alpha": 0.15,
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
        "grid.color": INK,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(11 if wide else 5.6, height), layout="constrained")
        FigureCanvasSVG(figure)  # no global state, no display
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)  # HTML needs none; nothing in the page names an outside address
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # every figure would have an axes_1
    label = html.escape(title)
    svg = svg.replace(INK, "currentColor").replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    kind = ' class="wide"' if wide else ""
    return f"<figure{kind}><figcaption>{label}</figcaption>{svg}</figure>"


def window(tasks: int) -> int:
    """Return over how many tasks a noisy curve is averaged: 1 for a short stream, else about a twentieth, odd."""
    return 1 if tasks <= MANY else max(5, tasks // 20) | 1


def averaged(tasks: int) -> str:
    """Return what to add to a label of curves that `smooth` averaged, if it did."""
    return f" (moving average over {window(tasks)} tasks)" if window(tasks) > 1 else ""


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the moving average of a curve over `window` tasks around each; at the ends, over those that there are.

    Args:
        values: float64 [T]; NaN where nothing was measured, and not counted.

    Returns:
        float64 [T]; NaN where nothing was measured in the whole window.
    """
    ones = np.ones(window(len(values)))
    known = np.isfinite(values)
    counts = np.convolve(known, ones, "same")
    sums = np.convolve(np.where(known, values, 0.0), ones, "same")
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def points(values: NDArray[np.float64], most: int = DRAWN) -> NDArray[np.intp]:
    """Return the places of a curve to draw a line through: those with a number, thinned to about `most`."""
    known = np.flatnonzero(np.isfinite(values))
    return np.union1d(known[:: max(1, len(known) // most)], known[-1:])


def dots(points: int, marker: str) -> dict[str, Any]:
    """Return Matplotlib's settings for the points of a line: marked if they are few."""
    return {"marker": marker, "markersize": 5} if points <= MANY else {}


def task_axis(axes: Axes, label: str) -> None:
    """Name the horizontal axis and put its ticks on whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def legend_above(figure: Figure) -> None:
    """Put a legend above the plot, where it hides no line."""
    labels = figure.axes[0].get_legend_handles_labels()[1]
    figure.legend(loc="outside upper right", ncols=2 if len("".join(labels)) < 45 else 1)


def fit(axes: Axes, label: str, bottom: float | None = None, least: float = 5.0) -> None:
    """Name the vertical axis, in %, and fit it to what was drawn.

    Args:
        axes: with its lines.
        label: with the unit.
        bottom: where the axis begins; None: below the lowest point, but not below 0.
        least: smallest range of the axis.
    """
    low, high = axes.get_ylim()
    low = max(0.0, low) if bottom is None else bottom
    high = min(100.0, max(high, low + least))
    low = min(low, high - least) if bottom is None else low
    margin = 0.02 * (high - low)  # a line at the edge is drawn in its full width
    axes.set(ylabel=label, ylim=(low - margin, high + margin))
