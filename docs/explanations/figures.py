"""The figures that explanations draw from measurements: `python docs/explanations/figures.py` writes them again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
COLOURS = ("#2f81c1", "#d07a1f", "#3c9655", "#8f63b8", "#c4503c", "#808b98")
STYLE = """
  <style>
    text { font-size: 13px; fill: #424a53; }
    .title { font-size: 15px; font-weight: 600; fill: #1f2328; }
    .grid { stroke: #808b98; stroke-opacity: .3; }
    .line { fill: none; stroke-width: 2; }
    @media (prefers-color-scheme: dark) { text { fill: #b6bfc9; } .title { fill: #e6edf3; } }
  </style>
"""
Points = Sequence["tuple[float, float]"]


class Scale(NamedTuple):
    """Values from `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> str:
        place = self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
        return f"{place:.1f}"


def figures() -> dict[str, str]:
    """Return each figure as SVG, by its file's name."""
    return {
        "plasticity.svg": _plasticity(),
        "prompts.svg": _prompts(),
        "moved_cameras.svg": _moved_cameras(),
    }


def _plasticity() -> str:
    rules = {**_read("plasticity.json")["rules"], **_read("plasticity_surprise.json")["rules"]}
    shown = {
        "cbp_surprise": "cbp_surprise (ours)",
        "l2": "weight decay",
        "cbp": "continual backpropagation",
        "linear": "a linear classifier",
        "none": "plain backpropagation",
    }
    lines = {
        name: [(task, sum(rules[rule]["curve"][task - 50 : task]) * 2) for task in range(50, 1001, 25)]
        for rule, name in shown.items()
    }
    title = "Accuracy on each of 1,000 tasks, %, mean of the last 50 tasks"
    return _lines(title, lines, x=(0, 1000, 200), y=(74, 92, 2), label="task")


def _prompts() -> str:
    tasks: dict[str, dict[str, Any]] = {}
    for name in ("10", "20", "50", "l2p"):
        for number, rows in _read(f"class_incremental_deit_{name}.json")["tasks"].items():
            tasks.setdefault(number, {}).update(rows)
    shown = {
        "slda": "streaming LDA",
        "cbpnet": "prompts and block (CBPNet)",
        "block": "block alone",
        "finetune": "output layer alone",
        "dualprompt": "prompts and output layer (DualPrompt)",
        "l2p": "a pool of prompts (L2P)",
    }
    lines = {
        name: [(float(number), 100 * tasks[number][row]["mean"]) for number in ("10", "20", "50")]
        for row, name in shown.items()
    }
    title = "New classes in 10, 20 and 50 tasks: final average accuracy, %"
    return _lines(title, lines, x=(10, 50, 10), y=(0, 70, 10), label="tasks of the stream")


def _moved_cameras() -> str:
    parts, top = [], 62
    panels = {
        "Digits: 6 old classes, after 4 new ones": ("moved_camera_digits.json", "5"),
        "Photos: 32 old classes, after 8 new ones": ("moved_camera_photos.json", "3"),
    }
    place = Scale(0, 100, 150, 700)
    for title, (file, images) in panels.items():
        mean = _read(file)["mean"]
        parts.append(f'<text class="title" x="150" y="{top}">{title}</text>')
        start = top + 12
        for row, (camera, found) in enumerate(mean.items()):
            y = start + 16 + 22 * row
            without, with_images = (100 * found[count]["old"] for count in ("0", images))
            parts += [
                f'<text x="140" y="{y + 4}" text-anchor="end">{camera.replace("_", ", ")}</text>',
                f'<path class="grid" stroke-width="6" d="M{place(without)} {y}H{place(with_images)}"/>',
                f'<circle cx="{place(without)}" cy="{y}" r="5" fill="{COLOURS[4]}"/>',
                f'<circle cx="{place(with_images)}" cy="{y}" r="5" fill="{COLOURS[0]}"/>',
            ]
        top = start + 22 * len(mean) + 8
        parts += [_upright(place(share), start, top) for share in range(0, 101, 20)]
        parts += [
            f'<text x="{place(share)}" y="{top + 16}" text-anchor="middle">{share}</text>'
            for share in range(0, 101, 20)
        ]
        top += 52
    keys = {
        "not calibrated": (150, COLOURS[4]),
        "calibrated by 5 (digits) or 3 images of each old class": (290, COLOURS[0]),
    }
    for text, (x, colour) in keys.items():
        parts.append(f'<circle cx="{x}" cy="24" r="5" fill="{colour}"/><text x="{x + 12}" y="28">{text}</text>')
    return _svg("Old classes right, %, through cameras that the host never saw", 720, top - 20, parts)


def _lines(
    title: str, lines: Mapping[str, Points], x: tuple[int, int, int], y: tuple[int, int, int], label: str
) -> str:
    """Return a chart of lines that are named at their ends; `x` and `y`: lowest, highest, step."""
    across, up = Scale(x[0], x[1], 44, 480), Scale(y[0], y[1], 340, 44)
    parts = [f'<text class="title" x="44" y="24">{escape(title)}</text>']
    for value in range(y[0], y[1] + 1, y[2]):
        parts.append(f'<path class="grid" d="M44 {up(value)}H480"/>')
        parts.append(f'<text x="36" y="{float(up(value)) + 4:.1f}" text-anchor="end">{value}</text>')
    for value in range(x[0], x[1] + 1, x[2]):
        parts.append(f'<text x="{across(value)}" y="360" text-anchor="middle">{value}</text>')
    parts.append(f'<text x="262" y="382" text-anchor="middle">{label}</text>')
    lowest = 0.0  # names do not cover each other
    for (name, points), colour in sorted(zip(lines.items(), COLOURS), key=lambda one: -one[0][1][-1][1]):
        path = " ".join(f"{across(a)} {up(b)}" for a, b in points)
        parts.append(f'<path class="line" stroke="{colour}" d="M{path}"/>')
        lowest = max(lowest + 17, float(up(points[-1][1])) + 4)
        parts.append(f'<text x="488" y="{lowest:.1f}" style="fill: {colour}">{escape(name)}</text>')
    return _svg(title, 780, 392, parts)


def _upright(x: str, start: float, end: float) -> str:
    return f'<path class="grid" d="M{x} {start}V{end}"/>'


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    fonts = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="{fonts}">'
    )
    return "\n".join(
        [opening, f"  <title>{escape(title)}</title>{STYLE}", *(f"  {part}" for part in parts), "</svg>", ""]
    )


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    for name, content in figures().items():
        (HERE / name).write_text(content, encoding="utf-8")
