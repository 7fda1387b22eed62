"""RESULTS.md from the result files: `python -m benchmarks.page`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    backbones,
    class_incremental,
    endurance,
    lives,
    micro,
    recipes,
    unattended,
)
from benchmarks.common import tables
from benchmarks.common.stages import ROOT
from benchmarks.plasticity import command as plasticity
from keras_cbpnet import cli

FOLDER = ROOT / "benchmarks" / "results"
PAGE = ROOT / "RESULTS.md"
HEAD = """\
# Results

Made by `python -m benchmarks.page` from the files in `benchmarks/results`, which hold every number below with its
command, seeds, versions and commit. What was tried on the way, also without success: `benchmarks/NOTES.md`.
"""
# Name of the files, title, and what shows one of them; in the page's order.
SECTIONS: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    ("class_incremental_*.json", "Class-incremental learning", class_incremental.render),
    ("lives_*.json", "Twelve lives", lives.render),
    ("plasticity.json", "Plasticity over a thousand tasks", plasticity.render),
    ("plasticity_surprise.json", "Labels that change their meaning, noticed instead of told", plasticity.render),
    ("plasticity_*tflite.json", "The same through head.tflite", plasticity.render),
    ("backbone_*.json", "Frozen backbones on CIFAR-100", backbones.render),
    ("unattended_*.json", "Learning unattended", unattended.render),
    ("endurance.json", "A device that never restarts", endurance.render),
    ("recipes_*.json", "What the conversion recipes lose", recipes.render),
    ("digits.json", "From training to device, on digits", tables.render),
    ("micro.json", "On a microcontroller", micro.render),
)


def main(argv: list[str] | None = None) -> int:
    """Write the page."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGE, help="file to write")
    output = parser.parse_args(argv).output
    output.write_text(page(FOLDER), encoding="utf-8")
    return 0


def page(folder: Path) -> str:
    """Return the page of the result files in `folder`; sections without files are left out."""
    parts = [HEAD]
    for pattern, title, show in SECTIONS:
        files = sorted(folder.glob(pattern))
        if files:
            parts.append(f"## {title}\n")
        for file in files:
            record = json.loads(file.read_text())
            source = f"`{record['command']}`, commit {str(record['commit'])[:7]}: `benchmarks/results/{file.name}`"
            parts.append(f"{show(record).strip()}\n\n{source}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(cli.run(main))
