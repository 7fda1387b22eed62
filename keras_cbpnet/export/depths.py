"""The report's table of depths: what the first encoder blocks alone cost, and how often they are right."""

# Dimensions: N held-out images, d feature size.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_cbpnet.export import samples
from keras_cbpnet.export.backbone import convert_backbone
from keras_cbpnet.export.head import shipped
from keras_cbpnet.export.order import Converted, Order
from keras_cbpnet.export.runtimes import run_backbone, time_backbones
from keras_cbpnet.export.source import Source
from keras_cbpnet.export.tflite_file.macs import multiply_adds
from keras_cbpnet.methods.method import block_head

LOSS = 0.005  # accuracy that the smallest depth which is named may lose against the best
ROUNDS = 20  # calls, of which the best is reported

__all__ = ["depth_lines", "depth_rows"]


def depth_rows(
    source: Source,
    converted: Converted,
    report: Mapping[str, Any],
    others: Iterable[Source],
    runtimes: Sequence[str],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Return `rows` by depth, and `smallest`, the depth of fewest blocks that loses at most half a point.

    A row: `depth`, `bytes` and `multiply_adds` of backbone.tflite, `accuracy` on the held-out images and
    `milliseconds` by runtime. Nothing where there are no others.

    Args:
        source: the run as it is converted.
        converted: its files.
        report: on them.
        others: the same run at other depths.
        runtimes: to time with; the first one also classifies.
        progress: called with a line for every depth.
    """
    first = runtimes[0]
    contents = {source.model.backbone.config.depth: converted.backbone}
    accuracy = {source.model.backbone.config.depth: report["backbones"]["backbone.tflite"]["accuracy"][first]}
    for other in others:
        depth = other.model.backbone.config.depth
        progress(f"converting the first {depth} encoder blocks ({converted.order.recipe})")
        contents[depth], accuracy[depth] = _at(other, converted, first)
    if len(contents) == 1:
        return {}
    files = {str(depth): content for depth, content in contents.items()}
    times = {name: time_backbones(files, converted.images[0], name, ROUNDS) for name in runtimes}
    rows = [
        {
            "depth": depth,
            "bytes": len(contents[depth]),
            "multiply_adds": multiply_adds(contents[depth]),
            "accuracy": accuracy[depth],
            "milliseconds": {name: times[name][str(depth)] for name in runtimes},
        }
        for depth in sorted(contents)
    ]
    best = max(accuracy.values())
    return {"rows": rows, "smallest": next(row["depth"] for row in rows if row["accuracy"] >= best - LOSS)}


def _at(source: Source, converted: Converted, runtime: str) -> tuple[bytes, float]:
    """Return backbone.tflite of a run, by the recipe of `converted`, and its accuracy on the same held-out images."""
    order: Order = converted.order._replace(slots=0)
    train = samples.representative(source.tasks, source.config.seed)
    with order.rounding(source.model):
        content = convert_backbone(source.model, order.recipe, train)
    head = order.predicts(source.model, shipped(block_head(source.model)))
    found = np.asarray(head(run_backbone(content, converted.images, runtime).feature)).argmax(axis=1)
    return content, float(np.mean(found == converted.labels))


def depth_lines(depths: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of `depth_rows` as text."""
    if not depths:
        return
    whole = depths["rows"][-1]
    yield "first encoder blocks alone, each with its own head (convert --depth N):"
    for row in depths["rows"]:
        times = ", ".join(f"{name} {value:.2f} ms" for name, value in row["milliseconds"].items())
        yield (
            f"  {row['depth']}: accuracy {row['accuracy']:.3f}, {row['bytes'] / 1024:.0f} KiB "
            f"({row['bytes'] / whole['bytes']:.0%}), {row['multiply_adds'] / 1e6:.1f} M multiply-adds "
            f"({row['multiply_adds'] / whole['multiply_adds']:.0%}), {times}"
        )
    yield f"  the smallest that loses at most half a point against the best: --depth {depths['smallest']}"
