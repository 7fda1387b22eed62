"""How fast, beside others and beside earlier commits: what `make bench` runs.

    python -m benchmarks.speed --json benchmarks/results/speed.json
    python -m benchmarks.speed --json benchmarks/results/speed.json --only growth,deit_onnx (in one line)

Every number is a ratio of things that take turns, each in a process of its own with one thread, in processor time
unless it says by the clock: median and quartiles of the turns. What it is compared with, PyTorch and ONNX Runtime, is
installed into an environment apart (--peers); what cannot be had leaves its rows with the reason, and a row that fails
leaves the others. --only measures some rows or areas again, the others stay in the file. About 25 minutes on two cores
that have nothing else to do; the cores that others use are part of the result.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import results
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.turns import busy_cores
from benchmarks.speed import growth, host, kernels, others
from benchmarks.speed.bench import Area, Bench, MissingError
from benchmarks.speed.rows import Found, Row, record_of, render, single
from firmware_host.board import board
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError

AREAS: tuple[Area, ...] = (
    host.REFUSAL,
    kernels.ACCURACY,
    kernels.BACKBONES,
    kernels.STEP,
    kernels.ARENA,
    others.LOOP,
    others.READING,
    others.PIXELS,
    host.CONVERSION,
    host.PROMPTS,
    host.DEMO,
    others.BANK,
    others.SERVE,
    growth.AREA,
)
WHOLE = Row("whole", "bench", "`make bench`, all rows, by the clock", 30 * 60, "seconds")
ROWS = {row.name: row for area in AREAS for row in area.rows}
NAMES = (*ROWS, *dict.fromkeys(row.area for row in ROWS.values()))  # what --only takes
STALE = ("bundle", "run", "networks")  # in the work folder: of the commit that made them


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--only", type=names, metavar="ROW,ROW,...", help="rows or areas to measure, of " + ", ".join(NAMES))
    add("--peers", type=Path, default=Path("build/bench-peers"), help="environment of PyTorch and ONNX Runtime")
    add("--work", type=Path, default=Path("build/bench"), help="folder to work in")
    add("--weights", type=Path, metavar="FILE", help="weights of DeiT-tiny (default: drawn, which takes as long)")
    add(
        "--photos", type=Path, metavar="DIR", help="folder with one folder of photos a class, whose pixels are compared"
    )
    add("--rounds", type=int, default=9, metavar="N", help="turns of what takes turns")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; rows that are not measured stay")
    return parser


def names(text: str) -> list[str]:
    """Return the names in `growth,deit_onnx`, an argparse type."""
    found = text.split(",")
    if unknown := [name for name in found if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"no row {unknown[0]!r}; choose of {', '.join(NAMES)}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the results after every area."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    if args.rounds < 2:
        raise UserError(f"--rounds {args.rounds}: use 2 or more")
    commit, began = results.commit(ROOT), time.monotonic()
    bench = Bench(fresh(args.work, commit), args.peers.absolute(), args.weights, args.photos, args.rounds, say)
    record: dict[str, Any] = {
        **results.provenance("benchmarks.speed", given, commit),
        "board": board(),
        "busy_cores": busy_cores(),
        "rows": {},
        "growth": {},
    }
    told_again: dict[str, Any] = {}  # of rows that are measured again
    if args.only and args.json and args.json.exists():
        earlier = json.loads(args.json.read_text(encoding="utf-8"))
        told_again = {name: record[name] for name in ("command", "commit", "busy_cores")}
        record = {**record, **earlier}
    chosen = [(area, wanted(area, args.only)) for area in AREAS]
    chosen = [(area, rows) for area, rows in chosen if rows]
    for number, (area, rows) in enumerate(chosen):
        minutes = (time.monotonic() - began) / 60
        say(f"[{number + 1}/{len(chosen)}] {', '.join(row.name for row in rows)} (after {minutes:.1f} min)")
        found = measured(area, bench)
        for row in rows:
            record["rows"][row.name] = {
                **record_of(row, found.get(row.name, Found(None, "it was not measured"))),
                **({"again": told_again} if told_again else {}),
            }
            say("    " + told(row.name, record["rows"][row.name]))
        record["growth"].update(bench.growth)
        if not args.only:
            record["rows"][WHOLE.name] = record_of(WHOLE, single(round(time.monotonic() - began, 1)))
        record["rows"] = in_order(record["rows"])
        if args.json:
            results.write(args.json, record)
    bench.remove_earlier()
    print(render(record))
    if args.json:
        say(f"written: {shown(args.json)}")
    return 0


def wanted(area: Area, only: Sequence[str] | None) -> list[Row]:
    """Return the rows of an area that `--only` names, all of them by default."""
    return [row for row in area.rows if only is None or row.name in only or row.area in only]


def measured(area: Area, bench: Bench) -> Mapping[str, Found]:
    """Return what came of an area; the reason for every row where it failed."""
    try:
        return area.measure(bench)
    except MissingError as error:
        reason = str(error)
    except Exception as error:  # a row that fails leaves the others
        reason = f"it failed with {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return {row.name: Found(None, reason) for row in area.rows}


def fresh(work: Path, commit: str | None) -> Path:
    """Return the work folder, without what another commit made in it."""
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    owner = work / "commit"
    if not (commit and owner.is_file() and owner.read_text() == commit and not commit.endswith("-dirty")):
        for name in STALE:
            shutil.rmtree(work / name, ignore_errors=True)
        owner.write_text(str(commit))
    return work


def in_order(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Return rows in the order of `ROWS`; those that are no longer asked for last."""
    order = [*(name for name in (*ROWS, WHOLE.name) if name in rows), *(name for name in rows if name not in ROWS)]
    return {name: rows[name] for name in order}


def told(name: str, row: Mapping[str, Any]) -> str:
    """Return a row in a line."""
    if "missing" in row:
        return f"{name}: not measured: {row['missing']}"
    asked = "" if row["asked"] is None else f", asked {row['asked']:g}: {'' if row['reached'] else 'not '}reached"
    return f"{name}: {row['value']:.3g} [{row['low']:.3g}-{row['high']:.3g}]{asked}"


def say(line: str) -> None:
    """Show a line of progress."""
    print(line, file=sys.stderr, flush=True)
