"""Results of the plasticity benchmark as tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.common.tables import markdown
from benchmarks.plasticity.rules import TUNED

LAST = 100  # tasks that the summary averages over
FIRST = 20


def render(record: dict[str, Any]) -> str:
    """Return the table of the rules, best first."""
    rows = [["rule", f"last {min(LAST, record['tasks'])} tasks, %", f"first {FIRST}, %", "seconds a seed"]]
    rows += [[name, *_cells(found)] for name, found in sorted(record["rules"].items(), key=_best_first)]
    return f"{record['tasks']} tasks, seeds {', '.join(map(str, record['seeds']))}\n\n{markdown(rows)}"


def render_all(records: Sequence[dict[str, Any]]) -> str:
    """Return one table of several results, each with its `file`, on the same features and as many tasks."""
    tasks, features = records[0]["tasks"], records[0]["features"]
    rows = [["rule", f"last {LAST} tasks, %", f"first {FIRST}, %", "seconds a seed", "engine", "seeds", "file"]]
    found = [(name, result, record) for record in records for name, result in record["rules"].items()]
    for name, result, record in sorted(found, key=lambda row: _best_first(row[:2])):
        seeds = ", ".join(map(str, record["seeds"]))
        rows.append([name, *_cells(result), record["engine"], seeds, f"`{record['file']}`"])
    return f"{features['file']}, {features['width']} features, {tasks} tasks\n\n{markdown(rows)}"


def render_tuning(record: dict[str, Any]) -> str:
    """Return the best and the present settings of every rule."""
    rows = [["rule", "tried", "second half, %", "best settings", "in use"]]
    for name, tried in record["rules"].items():
        best = tried[0]
        cells = [json.dumps(best["settings"]), json.dumps(TUNED[name])]
        rows.append([name, str(len(tried)), f"{100 * best['second_half']:.2f}", *cells])
    return markdown(rows)


def _best_first(item: Sequence[Any]) -> float:
    return -float(item[1]["mean"])


def _cells(found: dict[str, Any]) -> list[str]:
    deviation = "" if found["std"] is None else f" ± {100 * found['std']:.2f}"
    first, seconds = 100 * statistics.fmean(found["first_20"]), statistics.fmean(found["seconds"])
    return [f"{100 * found['mean']:.2f}{deviation}", f"{first:.2f}", f"{seconds:.0f}"]
