"""The HTML around figures and numbers: one file, no script, nothing named outside itself."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path

from firmware_host.shared.files import write_atomically

__all__ = ["cards", "grid", "write_page"]


def write_page(path: str | os.PathLike[str], title: str, body: str) -> None:
    """Write a page; an existing file is replaced at once, never left half written.

    Args:
        path: the file; its folder exists.
        title: plain text.
        body: HTML.
    """
    target = Path(path)
    page = _PAGE.format(title=html.escape(title), style=_STYLE, body=body)
    write_atomically(target, page.encode(), target.with_name(target.name + ".tmp"))


def cards(values: Sequence[tuple[str, str, str]]) -> str:
    """Return HTML of headline numbers, given as (number, unit, label), all plain text."""
    items = ""
    for number, unit, label in values:
        items += f"<div><b>{html.escape(number)} <small>{html.escape(unit)}</small></b>"
        items += f"<span>{html.escape(label)}</span></div>"
    return f'<div class="cards">{items}</div>'


def grid(figures: Sequence[str]) -> str:
    """Return HTML of figures side by side where the window is wide enough."""
    return '<div class="figures">\n' + "\n".join(figures) + "\n</div>"


_STYLE = """\
:root { color-scheme: light dark; --line: #d0d7de; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --card: #1b2027; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; }
.cards b { display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums; }
.cards small { font-size: 1rem; font-weight: 400; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr));
  gap: 1.5rem; margin-top: 2rem; align-items: start; }
figure { margin: 0; overflow-x: auto; } figure.wide { margin-top: 2rem; }
figcaption { font-weight: 600; margin-bottom: .25rem; }
figure svg { width: 100%; height: auto; } figure.wide svg { min-width: 44rem; }
svg text { font-family: system-ui, sans-serif !important; }
table { border-collapse: collapse; }
th, td { border-top: 1px solid var(--line); padding: .2rem .8rem .2rem 0; text-align: left; }
.config th { font-weight: 400; opacity: .75; } .config td { font-family: ui-monospace, monospace; }
.config td, .runs tbody th { overflow-wrap: anywhere; }
.runs { overflow-x: auto; } .runs table { width: 100%; }
.runs thead th { border: 0; vertical-align: bottom; line-height: 1.3; }
.runs td, .runs thead th + th { text-align: right; padding: .3rem 0 .3rem 1rem; }
.runs td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.runs tbody th { font-weight: 400; min-width: 8rem; } .runs .best { font-weight: 700; background: var(--card); }
.note { opacity: .75; }"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
