"""What each conversion recipe loses: final average accuracy of runs as the interpreter computes it, recipe by recipe.

    python -m benchmarks.recipes --seeds 0,1,2,3,4 --json benchmarks/results/recipes_digits.json
    python -m benchmarks.recipes --data npz:cifar100.npz --tasks 10 --epochs 0 --head-epochs 5
    python -m benchmarks.recipes --data npz:cifar100.npz --preset deit_tiny_16_224 --weights FILE --per-class 20,5 ...

One training per seed serves every recipe: `python -m keras_cbpnet.train` on the host's tasks, all of them, through fake
quantizers. `int8_calibrated` is the same run as int8 without them, its ranges from the converter's calibration alone;
every recipe with quantized activations has such a row. The head is that of the run, on the features that the runtime
gives. A command that was killed goes on in its --work folder.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from firmware_host.shared.runtimes import interpreters
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.export.recipes import RECIPES as CONVERSIONS
from keras_cbpnet.presets import get_preset

FLOAT = next(name for name, recipe in CONVERSIONS.items() if not recipe.quantized_weights)  # what others lose against
RECIPES = {FLOAT: FLOAT}  # name here: the converter's
for name, recipe in CONVERSIONS.items():
    RECIPES[name] = name
    if recipe.quantized_activations:
        RECIPES[f"{name}_calibrated"] = name


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = runs.build_parser("recipes", __doc__, data="digits", seeds=[0])
    add = parser.add_argument
    add("--tasks", type=int, default=5, metavar="T", help="number of tasks")
    add("--epochs", type=int, default=3, metavar="E", help="passes with the prompts; 0: no prompts")
    add("--head-epochs", type=int, default=20, metavar="E", help="passes of the head alone")
    add("--runtime", choices=interpreters(), default=interpreters()[0], help="runtime that computes the features")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train, convert and evaluate every seed; print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit = results.commit(ROOT)
    common: dict[str, Any] = {
        **runs.images_of(args),
        "tasks": args.tasks,
        "prompts": args.epochs > 0,
        "epochs": args.epochs,
        "head_epochs": args.head_epochs,
    }
    found: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in RECIPES}
    for seed in args.seeds:
        config = TrainConfig(**common, seed=seed)
        folder = args.work / f"{args.preset}-{args.tasks}-seed-{seed}"
        runs.run(config, folder)
        for recipe in RECIPES:
            found[recipe].append(measure(config, folder, recipe, args.runtime))
            runs.say(f"seed {seed}, {recipe}: {found[recipe][-1]['average_accuracy']:.3f}")
    record = {
        **results.provenance("benchmarks.recipes", given, commit),
        "runtime": args.runtime,
        "image_size": get_preset(args.preset).backbone.image_size,
        "per_class": args.per_class,
        "run": common,
        "seeds": args.seeds,
        "recipes": {recipe: over_seeds(rows) for recipe, rows in found.items()},
        "paired": {
            recipe: results.paired(*([row["average_accuracy"] for row in found[name]] for name in (recipe, FLOAT)))
            for recipe in RECIPES
            if recipe != FLOAT
        },
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {shown(args.json)}")
    print(render(record))
    return 0


def measure(config: TrainConfig, folder: Path, recipe: str, runtime: str) -> dict[str, Any]:
    """Return what `folder`, a finished run of `config`, is worth when converted by `recipe`.

    Returns:
        `accuracy` of each task's test images among all classes, `average_accuracy`, their mean, and `bytes` of the
        backbone; from the file that a call before has left in the folder, if there is one.
    """
    kept = folder / f"{recipe}-{runtime}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    import keras

    from keras_cbpnet.data import make_stream
    from keras_cbpnet.data.record import open_data_of_run
    from keras_cbpnet.export import samples
    from keras_cbpnet.export.backbone import convert_backbone
    from keras_cbpnet.export.runtimes import run_backbone
    from keras_cbpnet.layers.fake_quant import float32

    model = keras.models.load_model(folder / "model.keras")
    data = open_data_of_run(folder, config.dataset, model.backbone.config.image_size, config.seed)
    tasks = make_stream(config.stream, data, config.tasks, config.seed, config.ways, config.shots)
    ranges_of_run = recipe in CONVERSIONS and CONVERSIONS[recipe].quantized_activations
    with contextlib.nullcontext() if ranges_of_run else float32(model):
        file = convert_backbone(model, RECIPES[recipe], samples.representative(tasks, config.seed))
    accuracy = []
    for task in tasks:
        feature = run_backbone(file, task.x_test, runtime).feature
        accuracy.append(float(np.mean(np.asarray(model.head(feature)).argmax(axis=1) == task.y_test)))
    found = {"accuracy": accuracy, "average_accuracy": statistics.fmean(accuracy), "bytes": len(file)}
    results.write(kept, found)
    return found


def over_seeds(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the average accuracy of every seed, its mean and deviation, and the bytes of the first file."""
    accuracy = [row["average_accuracy"] for row in rows]
    return {
        "average_accuracy": accuracy,
        "mean": statistics.fmean(accuracy),
        "std": statistics.stdev(accuracy) if len(rows) > 1 else None,
        "bytes": rows[0]["bytes"],
    }


def render(record: dict[str, Any]) -> str:
    """Return the table of a result: one row per recipe."""
    table = [["recipe", "average accuracy, %", f"points over {FLOAT}", "95 % confidence", "backbone, bytes"]]
    for recipe, found in record["recipes"].items():
        pair = record["paired"].get(recipe)
        shift, bounds = ("-", "-") if pair is None else (f"{100 * pair['difference']:+.2f}", "-")
        if pair is not None and len(record["seeds"]) > 1:
            bounds = f"{100 * pair['low']:+.2f} to {100 * pair['high']:+.2f}"
        table.append([recipe, runs.cell(found), shift, bounds, f"{found['bytes']:,}"])
    run, images = record["run"], f"{record['image_size']} pixels, {runs.images_shown(record)}"
    prompts = f"prompts trained in {run['epochs']} passes" if run["prompts"] else "no prompts, ranges calibrated"
    seeds = ", ".join(map(str, record["seeds"]))
    head = (
        f"{run['preset']}, {images}, {run['tasks']} tasks, {prompts}, seeds {seeds}; "
        f"under {record['runtime']}, final average accuracy"
    )
    return f"{head}\n\n{markdown(table)}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
