"""Digits on a microcontroller: what a bundle needs under TFLM, and what it learns there, next to the Linux bundle.

    python -m benchmarks.micro --seeds 0,1,2 --json benchmarks/results/micro.json

One run per seed with vit_micro_32: the host learns 3 of 5 tasks, the device package the other 2 from PNG files, once
with the Linux bundle under the first TFLite runtime installed and once with the bundle for microcontrollers under TFLM,
by Adam as on Linux and by SGD. Memory is that of the first seed's SGD bundle, and of one for vit_nano_32. With Arm's
Vela on the PATH it also says what an Ethos-U would do.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import results
from benchmarks.common.pipeline import DEVICE_TASKS, learn_on_device
from benchmarks.common.stages import ROOT, StageError, Stages, shown
from benchmarks.common.tables import markdown
from firmware_host.shared.runtimes import installed_interpreters
from keras_cbpnet import cli

PRESETS = ("vit_micro_32", "vit_nano_32")  # the first one learns
SGD, ADAM, LINUX = "TFLM, SGD", "TFLM, Adam", "Linux, Adam"
CONVERSIONS = {
    SGD: ("--target", "micro", "--optimizer", "sgd"),
    ADAM: ("--target", "micro"),
    LINUX: (),
}
KIB = 1024


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.micro", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=cli.seed_list, default=(0, 1, 2), metavar="S,S,...", help="seeds of the runs")
    parser.add_argument(
        "--presets", default=",".join(PRESETS), metavar="P,P,...", help="presets whose memory is measured"
    )
    parser.add_argument(
        "--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the results."""
    args = build_parser().parse_args(argv)
    presets = args.presets.split(",")
    commit = results.commit(ROOT)
    memory: dict[str, Any] = {}
    records = []
    try:
        with tempfile.TemporaryDirectory(prefix="micro-") as name:
            for seed in args.seeds:
                work = Path(name) / f"seed{seed}"
                records.append(learn(work, seed, f"seed {seed} "))
                memory.setdefault(PRESETS[0], records[-1].pop("micro"))
            for preset in presets:
                if preset not in memory:
                    memory[preset] = measure_memory(Path(name) / preset, preset, args.seeds[0])
    except StageError as failure:
        if str(failure):
            print("error:", failure, file=sys.stderr)
        return failure.exit_code
    seeds = ",".join(map(str, args.seeds))
    words = ["--seeds", seeds, "--presets", args.presets, *(["--json", shown(args.json)] if args.json else [])]
    accuracy = [record["average_accuracy"] for record in records]
    record = {
        **results.provenance("benchmarks.micro", words, commit),
        "seeds": list(args.seeds),
        "memory": {preset: memory[preset] for preset in presets if preset in memory},
        "results": records,
        "mean": results.over_seeds(accuracy, statistics.fmean),
        "std": results.over_seeds(accuracy, lambda values: statistics.stdev(values) if len(values) > 1 else None),
    }
    if args.json:
        results.write(args.json, record)
    print(render(record))
    return 0


def learn(work: Path, seed: int, prefix: str = "") -> dict[str, Any]:
    """Train a run, convert it for Linux and for TFLM, let both learn what is left.

    Args:
        work: folder for run, bundles, images and states.
        seed: of class order, weights, batches and replay.
        prefix: of the announcements.

    Returns:
        `seed`, `average_accuracy` of each kind of bundle in 0..1, and `micro`, that section of report.json.
    """
    stages = Stages(2 + len(CONVERSIONS), prefix)
    run = _train(stages, work, PRESETS[0], seed)
    images = work / "images"
    tasks = stages.run("write images", "-m", "benchmarks.common.images", run, images)["tasks"]
    record: dict[str, Any] = {"seed": seed, "average_accuracy": {}}
    for place, (kind, options) in enumerate(CONVERSIONS.items()):
        stages.announce(f"converting, and learning {DEVICE_TASKS} tasks: {kind}")
        folder = work / f"device{place}"
        folder.mkdir()
        (folder / "images").symlink_to(images.resolve())
        report = stages.run("convert", "tflite/convert.py", run, "--output", folder / "bundle", *options, "--json")
        if kind == SGD:
            record["micro"] = report["micro"]
        runtime = "tflm" if options else installed_interpreters()[-1]
        _, rows = learn_on_device(stages, folder, tasks, seed, runtime)
        record["average_accuracy"][kind] = statistics.fmean(rows[-1])
    record["seconds"] = stages.seconds
    return record


def measure_memory(work: Path, preset: str, seed: int) -> dict[str, Any]:
    """Return the section `micro` of report.json for a digits run with `preset`."""
    stages = Stages(2, f"{preset} ")
    run = _train(stages, work, preset, seed)
    stages.announce("converting")
    report = stages.run("convert", "tflite/convert.py", run, "--output", work / "bundle", *CONVERSIONS[SGD], "--json")
    return dict(report["micro"])


def _train(stages: Stages, work: Path, preset: str, seed: int) -> Path:
    stages.announce(f"training {preset} on digits")
    options = ("--preset", preset, "--device-tasks", str(DEVICE_TASKS), "--replay", "statistics")
    stages.run("train", "-m", "keras_cbpnet.train", *options, "--seed", str(seed), "--output", work / "run", "--json")
    return work / "run"


def render(record: dict[str, Any]) -> str:
    """Return the tables of a result file."""
    rows = [["", *record["memory"]]]
    for title, show in ROWS.items():
        cells = [show(micro) for micro in record["memory"].values()]
        rows += [[title, *cells]] if any(cells) else []
    seeds = ", ".join(map(str, record["seeds"]))
    accuracy = [["learns the last two of five tasks", "average accuracy, %"]]
    for kind in CONVERSIONS:
        accuracy.append([kind, results_cell(record["mean"][kind], record["std"][kind])])
    return f"Digits bundles, SGD, one image a step\n\n{markdown(rows)}\n\nSeeds {seeds}\n\n{markdown(accuracy)}"


def results_cell(mean: float, std: float | None) -> str:
    """Return a share of 1 in %, with its deviation where there is one."""
    return f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if std is not None else "")


def _kib(size: float) -> str:
    return f"{size / KIB:.1f}"


def _split(arena: dict[str, int]) -> str:
    names = ("tensors", "variables", "persistent", "tensor_records", "operator_records")
    return " + ".join(_kib(arena[name]) for name in names)


def _ethos(micro: dict[str, Any], target: str) -> str:
    row = micro["ethos_u"].get(target, {"source": "not asked"})
    if "per_second" not in row:
        return str(row["source"])
    return f"{row['sram_kib']:.1f} KiB, {row['per_second']:,.0f}/s"


ROWS: dict[str, Any] = {
    "backbone arena, KiB": lambda micro: _kib(micro["arena"]["backbone.tflite"]["bytes"]),
    "of it: tensors + variables + kernels + records of tensors + of operators": lambda micro: _split(
        micro["arena"]["backbone.tflite"]
    ),
    "head arena, KiB": lambda micro: _kib(micro["arena"]["head_step.tflite"]["bytes"]),
    "of it, likewise": lambda micro: _split(micro["arena"]["head_step.tflite"]),
    "head arena of eight images a step, KiB": lambda micro: _kib(micro["arena"]["head_step_b8.tflite"]["bytes"]),
    "arena of backbone and head together, KiB": lambda micro: _kib(micro["arena_bytes"]),
    "the bank beside them, KiB": lambda micro: _kib(micro["bank_bytes"]) if micro.get("bank_bytes") else "",
    "models in flash, KiB": lambda micro: _kib(micro["flash_bytes"]),
    "exported state, KiB": lambda micro: _kib(micro["state_bytes"]),
    "multiply-adds of a prediction, M": lambda micro: f"{micro['multiply_adds']['predict'] / 1e6:.2f}",
    "multiply-adds of a training step, M": lambda micro: f"{micro['multiply_adds']['learn'] / 1e6:.2f}",
    "Ethos-U55-128 by Vela: SRAM, images a second": lambda micro: _ethos(micro, "ethos-u55"),
    "Ethos-U85-256 by Vela": lambda micro: _ethos(micro, "ethos-u85"),
}


if __name__ == "__main__":
    sys.exit(cli.run(main))
