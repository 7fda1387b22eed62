"""docs/family.md, what the neighbouring papers give: `python -m benchmarks.family`.

A row a paper: what it is for, the command, the gate that was written down before it was measured, what was reached, and
the verdict. Numbers are read from benchmarks/results and verdicts computed from them. To add a part, or the numbers of
one, change `PARTS` in family_parts.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from benchmarks.family_parts import PARTS, Gate, Part
from benchmarks.page import FOLDER
from keras_cbpnet import cli

PAGE = ROOT / "docs" / "family.md"
HEAD = """\
# The family: what neighbouring papers give

Made by `python -m benchmarks.family` from the files in [benchmarks/results](../benchmarks/results), which hold command,
seeds and commit of every number. Around CBPNet stand papers whose ideas could make a device smaller, faster or more
versatile. Each was built, or is to be, as a part of what is there already, and held to a gate that was written down
before it was measured. A part that misses its gate stays an option, and no default changes for it; no gate was lowered.
What was tried on the way: [benchmarks/NOTES.md](../benchmarks/NOTES.md). Words: [glossary.md](glossary.md).

Zeros in a network save no time on any runtime here, neither on a board with Linux nor on a microcontroller: decoded
weights are multiplied like others. They save flash on a microcontroller, and nothing else. What saves time is a smaller
dense network.
"""


def main(argv: list[str] | None = None) -> int:
    """Write the page."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.family", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGE, help="file to write")
    output = parser.parse_args(argv).output
    output.write_text(page(FOLDER, PARTS), encoding="utf-8")
    return 0


def page(folder: Path, parts: Sequence[Part]) -> str:
    """Return the page about `parts`, whose results are files in `folder`."""
    rows = [["paper", "what it is for", "verdict"]]
    rows += [[part.title, part.purpose, verdict(folder, part)] for part in parts]
    return "\n".join([HEAD, markdown(rows), *(section(folder, part) for part in parts)])


def section(folder: Path, part: Part) -> str:
    """Return what the page says of one part."""
    lines = [f"\n## {part.name}\n", f"{part.title}: {part.purpose}."]
    if part.command:
        lines.append(f"\n```\n{part.command}\n```")
    rows = [["gate", "wanted", "reached", ""]]
    for gate in part.gates:
        value = reached(folder, gate)
        shown = "not measured" if value is None else f"{value:.{gate.digits}f}{gate.unit}"
        sign = "at least" if gate.least is not None else "at most"
        wanted = f"{sign} {gate.bound:.{gate.digits}f}{gate.unit}"
        rows.append([gate.what, wanted, shown, "" if value is None else "reached" if gate.holds(value) else "missed"])
    if part.gates:
        lines.append(f"\n{markdown(rows)}")
    if part.remark:
        lines.append(f"\n{part.remark}")
    files = dict.fromkeys(gate.file for gate in part.gates if (folder / gate.file).exists())
    return "\n".join([*lines, *(["", *map(_source, map(folder.joinpath, files))] if files else [])])


def verdict(folder: Path, part: Part) -> str:
    """Return in a few words what became of a part: computed from its gates, and what it stays for."""
    if not part.command:
        return "not built"
    values = [(gate, reached(folder, gate)) for gate in part.gates]
    if not values:
        return part.stays or "built; its gates have no result file"
    measured = [gate.holds(value) for gate, value in values if value is not None]
    missing = len(values) - len(measured)
    words = [f"{sum(measured)} of {len(measured)} gates reached" if measured else "not measured"]
    words += [f"{missing} not measured"] if measured and missing else []
    return ", ".join(words) + (f"; {part.stays}" if part.stays else "")


def reached(folder: Path, gate: Gate) -> float | None:
    """Return the number that a gate is about; None where it was not measured."""
    file = folder / gate.file
    if not file.exists():
        return None
    try:
        return float(gate.value(json.loads(file.read_text())))
    except KeyError:  # the file has other rows
        return None


def _source(file: Path) -> str:
    record: dict[str, Any] = json.loads(file.read_text())
    return f"- `{file.name}`, commit {str(record['commit'])[:7]}: `{record['command']}`"


if __name__ == "__main__":
    sys.exit(cli.run(main))
