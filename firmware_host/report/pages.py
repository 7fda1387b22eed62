"""The report as one page: no script, nothing named outside itself; figures are SVG in the page's colours."""

from __future__ import annotations

import base64
import os
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

from firmware_host.device import Device
from firmware_host.engines.protocol import Array
from firmware_host.images import ImageLike
from firmware_host.report import numbers
from firmware_host.report.numbers import Bin, Judged, Pair
from firmware_host.shared.page import cards, grid, write_page

__all__ = ["write_report"]

PAIRS, THUMBNAILS = 8, 4  # confused pairs that are shown, and images of each
THUMBNAIL = 64  # pixels along the longer side, at most
STYLE = """<style>
.matrix { border-collapse: separate; border-spacing: 1px; font-size: .75rem; }
.matrix td { border: 0; min-width: 1.6rem; height: 1.6rem; padding: 0; text-align: center; }
.matrix td.much { color: #fff; }
.matrix td.hit { background: color-mix(in srgb, #0072b2 var(--share), transparent); }
.matrix td.miss { background: color-mix(in srgb, #d55e00 var(--share), transparent); }
.matrix th { border: 0; font-weight: 400; white-space: nowrap; padding: 0 .4rem 0 0; text-align: right; }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; padding: .4rem 0 0; }
.scroll { overflow-x: auto; } .classes td, .classes th { padding-right: 1rem; }
.bar { width: 12rem; height: .9rem; }
.thumbs img { width: 4rem; margin-right: .25rem; image-rendering: auto; border-radius: .25rem; }
@media print { body { max-width: none; } .figures { display: block; } }
</style>"""


def write_report(path: str | os.PathLike[str], title: str, device: Device, judged: Sequence[Judged]) -> None:
    """Write the page; an existing file is replaced at once, never left half written.

    Args:
        path: the file; its folder exists.
        title: plain text.
        device: as it was when it judged the images.
        judged: at least one image of a known class.
    """
    classes = device.classes
    labelled = [one for one in judged if one.label is not None]
    strangers = [one for one in judged if one.label is None]
    counts, found = numbers.confusion(classes, labelled), numbers.bins(labelled)
    right, images = int(np.trace(counts)), int(counts.sum())
    low, high = numbers.interval(right, images)
    head = [
        (f"{100 * right / images:.1f}", "%", f"accuracy; 95 % interval {100 * low:.1f} to {100 * high:.1f}"),
        (f"{images:,}", "images", f"of {int((counts.sum(axis=1) > 0).sum())} of {len(classes)} classes known"),
        (f"{100 * numbers.calibration_error(found):.1f}", "%", "expected calibration error"),
        _share(labelled, f"of known classes called unknown; {100 * device.unknown_rate:.0f} % were allowed"),
    ]
    if strangers:
        area = numbers.area_under_roc([one.found.novelty for one in labelled], [one.found.novelty for one in strangers])
        head += [
            _share(strangers, f"of {len(strangers)} images of no known class called unknown"),
            (f"{100 * area:.1f}", "%", "area under the ROC curve, known against unknown"),
        ]
    body = [STYLE, cards(head), _classes(classes, counts, device.learned), _matrix(classes, counts)]
    body += [grid([_calibration(found)]), _pairs(numbers.confused(labelled), _pixels_of(device))]
    write_page(path, title, "\n".join(body))


def _pixels_of(device: Device) -> Callable[[ImageLike], Array]:
    """Return what turns an image into the pixels that the backbone sees, uint8 RGB [H, W, 3]."""
    return device.load


def _share(judged: Sequence[Judged], what: str) -> tuple[str, str, str]:
    unknown = sum(not one.found.known for one in judged) / len(judged)
    return f"{100 * unknown:.1f}", "%", what


def _classes(classes: Sequence[str], counts: Array, learned: Mapping[str, tuple[int, int]]) -> str:
    """Return the table of classes: accuracy with its interval, and what was learned of each, and where."""
    rows = []
    for name, row, right in zip(classes, counts, np.diag(counts)):
        images = int(row.sum())
        low, high = numbers.interval(int(right), images)
        told = f"{100 * right / images:.1f} %" if images else "no image"
        bar = (
            f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect width="100" height="10" fill="currentColor" opacity=".12"/>'
            f'<rect x="{100 * low:.1f}" width="{100 * (high - low):.1f}" height="10" fill="#0072b2" opacity=".35"/>'
            f'<rect x="{max(0.0, 100 * right / images - 0.7):.1f}" width="1.4" height="10" fill="#0072b2"/></svg>'
            if images
            else ""
        )
        before, since = learned[name]
        rows.append(
            f"<tr><th>{escape(name)}</th><td>{told}</td><td>{bar}</td><td>{int(right)} of {images}</td>"
            f"<td>{before:,}</td><td>{since:,}</td></tr>"
        )
    return (
        '<h2>Classes, in the order that they were learned</h2><div class="scroll"><table class="classes">'
        "<thead><tr><th>class</th><th>accuracy</th><th>95 % interval</th><th>right</th><th>images from the host</th>"
        f"<th>learned here</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _matrix(classes: Sequence[str], counts: Array) -> str:
    """Return the confusion matrix: a row is what images are, a column what they were taken for."""
    seen = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    names = "".join(f"<th>{escape(classes[slot])}</th>" for slot in seen)
    rows = []
    for slot in seen:
        cells = []
        for other in seen:
            number, share = int(counts[slot, other]), counts[slot, other] / max(int(counts[slot].sum()), 1)
            kind = ("hit" if slot == other else "miss") + " much" * bool(share > 0.25)
            title = f"{classes[slot]} taken for {classes[other]}: {number}"
            cells.append(
                f'<td class="{kind}" style="--share: {100 * share**0.5:.0f}%" title="{escape(title)}">{number}</td>'
                if number
                else "<td></td>"
            )
        rows.append(f"<tr><th>{escape(classes[slot])}</th>{''.join(cells)}</tr>")
    return (
        "<h2>What images are (rows) and what they were taken for (columns)</h2>"
        f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{names}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _calibration(found: Sequence[Bin]) -> str:
    """Return the curve of how often predictions of each probability are right."""
    most = max(each.images for each in found)
    bars = "".join(
        f'<rect x="{300 * each.probability - 8:.1f}" y="{300 - 60 * each.images / most:.1f}" width="16" '
        f'height="{60 * each.images / most:.1f}" fill="currentColor" opacity=".12"/>'
        for each in found
    )
    line = " ".join(f"{300 * each.probability:.1f},{300 - 300 * each.right:.1f}" for each in found)
    dots = "".join(
        f'<circle cx="{300 * each.probability:.1f}" cy="{300 - 300 * each.right:.1f}" r="4" fill="#0072b2">'
        f"<title>{100 * each.probability:.0f} % sure, {100 * each.right:.0f} % right, {each.images} images</title>"
        "</circle>"
        for each in found
    )
    ticks = "".join(
        f'<text x="{300 * tick / 100}" y="318" text-anchor="middle">{tick}</text>'
        f'<text x="-6" y="{304 - 300 * tick / 100}" text-anchor="end">{tick}</text>'
        for tick in (0, 50, 100)
    )
    return (
        "<figure><figcaption>How sure it was, and how often that was right, %</figcaption>"
        '<svg viewBox="-40 -10 360 340" style="max-width: 26rem" font-size="12" fill="currentColor" role="img" '
        'aria-label="calibration curve">'
        '<rect width="300" height="300" fill="none" stroke="currentColor" opacity=".4"/>'
        '<line x1="0" y1="300" x2="300" y2="0" stroke="currentColor" opacity=".4" stroke-dasharray="4"/>'
        f'{bars}<polyline points="{line}" fill="none" stroke="#0072b2" stroke-width="2"/>{dots}{ticks}</svg></figure>'
    )


def _pairs(pairs: Sequence[Pair], pixels: Callable[[ImageLike], Array]) -> str:
    if not pairs:
        return "<h2>Confused classes</h2><p>None.</p>"
    rows = []
    for pair in pairs[:PAIRS]:
        thumbs = "".join(
            f'<img src="data:image/png;base64,{_thumbnail(pixels(image))}" alt="{escape(pair.label)}">'
            for image in pair.images[:THUMBNAILS]
        )
        rows.append(
            f"<tr><th>{escape(pair.label)}</th><td>taken for {escape(pair.taken_for)}</td>"
            f'<td>{len(pair.images)}</td><td class="thumbs">{thumbs}</td></tr>'
        )
    left = f"<p class=note>{len(pairs) - PAIRS} more pairs are not shown.</p>" if len(pairs) > PAIRS else ""
    return f'<h2>Confused classes, the most first</h2><table class="classes">{"".join(rows)}</table>{left}'


def _thumbnail(pixels: Array) -> str:
    """Return uint8 RGB [H, W, 3], every n-th pixel of it, as a PNG in base64."""
    step = -(-max(pixels.shape[:2]) // THUMBNAIL)
    small = np.ascontiguousarray(pixels[::step, ::step])
    height, width, _ = small.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), small.reshape(height, -1)], axis=1)  # no filter
    pieces = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    ]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in pieces
    )
    return base64.b64encode(png).decode()
