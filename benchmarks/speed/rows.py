"""What is asked, row by row, and how a result is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from benchmarks.common.tables import markdown
from benchmarks.common.turns import Spread

__all__ = ["Found", "Row", "record_of", "render", "single"]

UNITS = dict.fromkeys(("ratio", "exponent", "levels"), "") | {"seconds": " s", "points": " points", "KB": " KB"}


class Row(NamedTuple):
    """One number that is asked for.

    Args:
        name: what `--only` takes.
        area: what it is part of; rows of an area stand together.
        text: what is measured, over what.
        asked: at most; None: nothing is asked, it is told.
        unit: a key of `UNITS`.
    """

    name: str
    area: str
    text: str
    asked: Optional[float]
    unit: str = "ratio"


class Found(NamedTuple):
    """What came of a row: a number with the quartiles of its turns, or the reason why there is none."""

    spread: Optional[Spread]
    reason: str = ""


def single(value: float) -> Found:
    """Return a number that was measured once, or that does not vary."""
    return Found(Spread(value, value, value))


def record_of(row: Row, found: Found) -> dict[str, Any]:
    """Return a row for a result file."""
    said: dict[str, Any] = {"area": row.area, "text": row.text, "asked": row.asked, "unit": row.unit}
    if found.spread is None:
        return {**said, "missing": found.reason}
    value, low, high = (round(number, 4) for number in found.spread)
    reached = None if row.asked is None else value <= row.asked
    return {**said, "value": value, "low": low, "high": high, "reached": reached}


def render(record: Mapping[str, Any]) -> str:
    """Return the tables of a result: the rows by area, and the curves of growth."""
    table = [["", "median [quartiles]", "asked, at most", ""]]
    for name, row in record["rows"].items():
        table.append([f"{row['area']}: {row['text']} (`{name}`)", _cell(row), _asked(row), _verdict(row)])
    parts = [markdown(table)]
    again: dict[str, list[str]] = {}
    for name, row in record["rows"].items():
        if "again" in row:
            again.setdefault(
                f"commit {(row['again']['commit'] or 'unknown')[:7]}, `{row['again']['command']}`", []
            ).append(f"`{name}`")
    parts += [f"Measured again: {', '.join(names)}, {how}" for how, names in again.items()]
    if curves := record.get("growth"):
        parts.append(_growth(curves))
    return "\n\n".join(parts)


def _growth(curves: Mapping[str, Any]) -> str:
    axes = list(dict.fromkeys(axis for of_axis in curves.values() for axis in of_axis))
    head = ["microseconds of processor time; exponent"]
    head += [f"{axis} {', '.join(map(str, _sizes(curves, axis)))}" for axis in axes]
    rows = [head]
    for what, of_axis in curves.items():
        cells = []
        for axis in axes:
            found = of_axis.get(axis)
            cells.append("-" if found is None else f"{', '.join(map(_short, found['us']))}; {found['exponent']:.2f}")
        rows.append([what, *cells])
    return markdown(rows)


def _sizes(curves: Mapping[str, Any], axis: str) -> list[int]:
    return next(list(of_axis[axis]["sizes"]) for of_axis in curves.values() if axis in of_axis)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


def _cell(row: Mapping[str, Any]) -> str:
    if "missing" in row:
        return "-"
    digits = 0 if row["value"] >= 100 else 1 if row["value"] >= 10 else 2
    unit = UNITS[row["unit"]]
    if row["low"] == row["high"]:
        return f"{row['value']:.{digits}f}{unit}"
    return f"{row['value']:.{digits}f} [{row['low']:.{digits}f}-{row['high']:.{digits}f}]{unit}"


def _asked(row: Mapping[str, Any]) -> str:
    return "-" if row["asked"] is None else f"{row['asked']:g}{UNITS[row['unit']]}"


def _verdict(row: Mapping[str, Any]) -> str:
    if "missing" in row:
        return f"not measured: {row['missing']}"
    return {True: "reached", False: "not reached", None: ""}[row["reached"]]
