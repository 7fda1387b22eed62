"""Which backbone for which board: quality on photographs, cost and fit of every backbone that has weights.

    python -m benchmarks.boards --photos photos --weights deit_tiny.npz --json benchmarks/results/boards.json
        --table keras_cbpnet/boards.json (in one line)
    python -m benchmarks.boards --photos photos --weights deit_tiny.npz --json benchmarks/results/boards.json
        --only timing (in one line)

The second command measures one part again and puts it into the file that is there. `accuracy`: LDA as the results of
`benchmarks.photos` have it. `files`: a bundle's sizes, what it needs under TFLM, what Arm's Vela, where it is on the
PATH, says of an Ethos-U. `device`: RAM of the device process, and the instructions of an image on emulated aarch64,
where qemu-user is installed. `cbpnet`: the trainer's default method on eight tasks. `timing`: medians within one
process of `firmware_host bench` on this machine, which should have nothing else to do. What is missing leaves a dash
and the reason. --table writes what `keras_cbpnet.train --preset auto` picks by: the first three parts.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from benchmarks.class_incremental import COMMON, ROWS
from benchmarks.common import results, runs
from benchmarks.common.emulation import CPUS, MissingError, count_instructions
from benchmarks.common.pipeline import on_device
from benchmarks.common.stages import ROOT, StageError, Stages
from benchmarks.common.tables import markdown
from firmware_host.shared.runtimes import installed_interpreters, interpreters
from keras_cbpnet import cli
from keras_cbpnet.boards import BOARDS, MIB, obstacle
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.accelerators import ETHOS_U
from keras_cbpnet.presets import PRESETS, get_preset

SHOTS = (5, 15)  # training photos of a class
TESTED = 15  # photos of a class, for CBPNet
TASKS, SEEDS = 8, (0, 1, 2)
THREADS = (1, 2)
RESULTS = ROOT / "benchmarks" / "results"
UNSHIPPED = "deit_tiny_16_224"  # what --weights is for
METHOD = "mixture"  # of `class_incremental.ROWS`: the trainer's default, block and bank
MISSING = "missing"  # the key of a reason instead of a number


class Subject(NamedTuple):
    """A backbone to measure, with its file of weights (None: the shipped one), the photos and a folder to work in."""

    name: str
    weights: Optional[Path]
    photos: Path
    folder: Path

    def config(self, shots: int, **changes: Any) -> TrainConfig:
        """Return the configuration of a run on `shots` training photos of each class."""
        size = get_preset(self.name).backbone.image_size
        dataset = runs.subset(f"folder:{self.photos}", (shots, TESTED), self.folder, size)
        return TrainConfig(preset=self.name, weights=str(self.weights or ""), dataset=dataset, **changes)


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.boards", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--photos", required=True, type=Path, help="folder with one folder of photos a class")
    add("--preset", type=runs.names_of("preset", PRESETS), metavar="P,P,...", help="backbones; default: with weights")
    add("--weights", type=Path, metavar="FILE", help=f"weights of {UNSHIPPED}; without, the shipped backbones alone")
    add(
        "--only",
        type=runs.names_of("part", PARTS),
        default=list(PARTS),
        metavar="P,P,...",
        help="parts to measure, of " + ", ".join(PARTS) + "; what the file of --json has of the others stays",
    )
    add("--work", type=Path, default=Path("runs/boards"), help="folder of runs and bundles, which are made once")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results")
    add("--table", type=results.output_file, metavar="OUT", help="file for what --preset auto picks by")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit = results.commit(ROOT)
    own = [name for name in PRESETS if get_preset(name).weights]
    subjects = [subject(name, args) for name in args.preset or [*own, *([UNSHIPPED] if args.weights else [])]]
    provenance = results.provenance("benchmarks.boards", given, commit)
    record = {**provenance, "shots": SHOTS, "seeds": SEEDS, "tasks": TASKS, "backbones": {}}
    if args.json and args.json.exists():
        record = json.loads(args.json.read_text(encoding="utf-8"))
    try:
        for one in subjects:
            found = record["backbones"].setdefault(one.name, {"made": {}})
            for part in args.only:
                runs.say(f"{one.name}: {part}")
                found[part] = PARTS[part](one)
                found["made"][part] = {key: provenance[key] for key in ("command", "commit", "machine")}
                if args.json:
                    results.write(args.json, record)
    except StageError as failure:
        if str(failure):
            print("error:", failure, file=sys.stderr)
        return failure.exit_code
    if args.table:
        results.write(args.table, table(record))
    print(render(record))
    return 0


def subject(name: str, args: argparse.Namespace) -> Subject:
    """Return what is measured of a preset; its folder is that of its weights, so that others are not taken for them."""
    shipped = get_preset(name).weights
    weights = None if shipped else args.weights
    file = ROOT / "keras_cbpnet" / "weights" / shipped if shipped else weights
    if not file or not file.is_file():
        raise UserError(f"no weights of {name}; give --weights FILE")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    return Subject(name, weights, args.photos, args.work / f"{name}-{digest}")


def accuracy(one: Subject) -> dict[str, Any]:
    """Return parameters and LDA by photos a class, as `benchmarks.photos` measured them.

    Raises:
        UserError: there is no such measurement.
    """
    measured = [
        json.loads(file.read_text(encoding="utf-8"))["backbones"] for file in sorted(RESULTS.glob("photos*.json"))
    ]
    found = next((backbones[one.name] for backbones in measured if one.name in backbones), None)
    if not found:
        command = f"python -m benchmarks.photos --preset {one.name} --json benchmarks/results/photos_{one.name}.json"
        raise UserError(f"no result of benchmarks.photos for {one.name}; run {command} first")
    lda: dict[str, Any] = {"int8": {MISSING: "LDA was measured as float32 alone"}}
    lda.update({kind: {str(n): by[str(n)]["lda"] for n in SHOTS} for kind, by in found["accuracy"].items()})
    return {"parameters": found["parameters"], "lda": lda}


def cbpnet(one: Subject) -> dict[str, Any]:
    """Return the accuracy of the trainer's default method after the last task, by photos a class."""
    settings = {**COMMON, **ROWS[METHOD], "tasks": TASKS}
    return {str(n): runs.measure(one.config(n, **settings), SEEDS, one.folder / f"shots{n}") for n in SHOTS}


def files(one: Subject) -> dict[str, Any]:
    """Convert a run for Linux and for TFLM; return bytes, multiply-adds of an image, and needs of a microcontroller."""
    from keras_cbpnet.export.bundle import export_bundle
    from keras_cbpnet.export.order import Order

    run = one.folder / "run"
    config = one.config(min(SHOTS), tasks=1)
    runs.run(config, run)
    report = export_bundle(run, config, one.folder / "linux", Order(("int8",)), True, runs.say)
    found: dict[str, Any] = {name: report[name] for name in ("bytes", "multiply_adds")}
    try:
        order = Order(("int8",), "micro", 0, "sgd")
        found["micro"] = export_bundle(run, config, one.folder / "micro", order, True, runs.say)["micro"]
    except UserError as error:
        found["micro"] = {MISSING: str(error)}
    rows = {name: report["targets"][name] for name in ETHOS_U}
    ethos_u = {name: row if "per_second" in row else {MISSING: row["source"]} for name, row in rows.items()}
    return {**found, "ethos_u": ethos_u}


def device(one: Subject) -> dict[str, Any]:
    """Return the peak memory of the device process by runtime, and the instructions of an image by processor."""
    try:
        counts: dict[str, Any] = {cpu: count_instructions(bundle(one), cpu) for cpu in CPUS}
    except MissingError as error:
        counts = {MISSING: str(error)}
    memory = {name: bench(one, name, 1, 1)["peak_memory_mb"] for name in installed_interpreters()}
    return {"memory": memory, "instructions": counts}


def timing(one: Subject) -> dict[str, Any]:
    """Return what `firmware_host bench` says of the bundle, by runtime and threads."""
    found = {name: {str(n): bench(one, name, n) for n in THREADS} for name in installed_interpreters()}
    absent = [name for name in interpreters() if name not in found]
    return {**found, **{name: {MISSING: f"{name} is not installed"} for name in absent}}


def bench(one: Subject, runtime: str, threads: int, repeat: int = 50) -> dict[str, Any]:
    """Return what `firmware_host bench` says of the bundle."""
    options = ("--runtime", runtime, "--threads", str(threads), "--repeat", str(repeat))
    return on_device(Stages(0), "bench", bundle(one), *options)


def bundle(one: Subject) -> Path:
    """Return the folder of the subject's bundle for Linux, converted before or now."""
    folder = one.folder / "linux"
    if not (folder / "manifest.json").exists():
        files(one)
    return folder


PICKED_BY = ("accuracy", "files", "device")
PARTS = {part.__name__: part for part in (accuracy, files, device, cbpnet, timing)}


def table(record: dict[str, Any]) -> dict[str, Any]:
    """Return what `keras_cbpnet.boards` picks by: a short row for each measured backbone, None for what is missing."""
    return {name: _row(one) for name, one in record["backbones"].items() if not {*PICKED_BY} - {*one}}


def _row(one: dict[str, Any]) -> dict[str, Any]:
    micro, counted, peaks = one["files"]["micro"], one["device"]["instructions"], one["device"]["memory"].values()
    fits = MISSING not in micro
    return {
        "accuracy": round(one["accuracy"]["lda"]["float32"][str(max(SHOTS))]["mean"], 4),
        "bytes": one["files"]["bytes"]["backbone.tflite"],
        "memory": round(max(peaks), 1) if peaks else None,  # MiB
        "instructions": {cpu: counted.get(cpu) for cpu in CPUS},
        "multiply_adds": micro["multiply_adds"]["predict"] if fits else one["files"]["multiply_adds"],
        "arena": round(micro["arena_bytes"] / MIB, 3) if fits else None,  # MiB
        "flash": round(micro["flash_bytes"] / MIB, 3) if fits else None,  # MiB
        "ethos_u55_per_second": one["files"]["ethos_u"].get("ethos-u55", {}).get("per_second"),
    }


def _percent(found: dict[str, Any]) -> str:
    spread = found["deviation"] if "deviation" in found else found["std"]
    return f"{100 * found['mean']:.1f} ± {100 * spread:.1f}"


def _times(factor: float, digits: int) -> Callable[[float], str]:
    return lambda value: f"{value * factor:,.{digits}f}"


def _ethos(row: dict[str, Any]) -> str:
    return f"{row['sram_kib']:,.0f}, {row['per_second']:,.0f}"


Line = tuple[str, Sequence[str], Callable[[Any], str]]  # title, path through a backbone's results, how to write it
LDA = [(str(n), kind) for n in SHOTS for kind in ("float32", "int8")]
CALLS = [(runtime, str(threads)) for runtime in interpreters() for threads in THREADS]
LINES: list[Line] = [
    ("parameters, M", ("accuracy", "parameters"), _times(1e-6, 2)),
    *((f"LDA, {n} photos a class, {kind}, %", ("accuracy", "lda", kind, n), _percent) for n, kind in LDA),
    *((f"CBPNet, {n} photos a class, %", ("cbpnet", str(n)), _percent) for n in SHOTS),
    ("multiply-adds of an image, M", ("files", "multiply_adds"), _times(1e-6, 1)),
    *((f"{name}, bytes", ("files", "bytes", name), _times(1, 0)) for name in ("backbone.tflite", "head.tflite")),
    *((f"{name}, threads: {n}, ms", ("timing", name, n, "predict_ms"), _times(1, 2)) for name, n in CALLS),
    *((f"{name}, RAM, MiB", ("device", "memory", name), _times(1, 0)) for name in interpreters()),
    *((f"instructions, emulated {cpu}, M", ("device", "instructions", cpu), _times(1e-6, 1)) for cpu in CPUS),
    ("TFLM arena, KiB", ("files", "micro", "arena_bytes"), _times(1 / 1024, 0)),
    ("TFLM flash, KiB", ("files", "micro", "flash_bytes"), _times(1 / 1024, 0)),
    *((f"{name} by Vela: SRAM KiB, images a second", ("files", "ethos_u", name), _ethos) for name in ETHOS_U),
]


def render(record: dict[str, Any]) -> str:
    """Return the tables of a result: the backbones, then what each board would do with them."""
    backbones = record["backbones"]
    rows = [["", *backbones]]
    rows += [[title, *(_shown(one, path, show) for one in backbones.values())] for title, path, show in LINES]
    lines = [f"One image; LDA: five draws; CBPNet: {TASKS} tasks, seeds {', '.join(map(str, record['seeds']))}"]
    if timed := next(iter(backbones.values()))["made"].get("timing"):
        machine, commit = timed["machine"], str(timed["commit"])[:7]
        lines[0] += f". ms: {machine['processor']}, {machine['cores']} cores, medians, commit {commit}"
    reasons = [f"- {name}: {why}" for name, one in backbones.items() for why in dict.fromkeys(_reasons(one))]
    lines += ["", markdown(rows), "", *reasons]
    if short := table(record):
        lines += ["", "Estimates, ms an image; nothing of it was run on such a board:", "", _boards(short)]
    return "\n".join(lines)


def _shown(one: dict[str, Any], path: Sequence[str], show: Callable[[Any], str]) -> str:
    try:
        return show(functools.reduce(dict.__getitem__, path, one))
    except KeyError:  # that part was not measured, or holds a reason instead
        return "-"


def _reasons(found: dict[str, Any]) -> Iterator[str]:
    """Yield each reason why there is a dash."""
    for key, value in found.items():
        if key == MISSING:
            yield value
        elif isinstance(value, dict):
            yield from _reasons(value)


def _boards(short: dict[str, Any]) -> str:
    rows = [["board", *short]]
    for key, board in BOARDS.items():
        cells = (obstacle(board, row) or f"{board.milliseconds(row):,.0f}" for row in short.values())
        rows.append([f"{key}: {board.title}", *cells])
    return markdown(rows)


if __name__ == "__main__":
    sys.exit(cli.run(main))
