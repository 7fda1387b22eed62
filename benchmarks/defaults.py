"""Defaults against best: what `train` gives with no option, beside settings that are known to help somewhere.

    python -m benchmarks.defaults --photos folder:photos --cifar npz:cifar100.npz --seeds 0,1

Every cell is a run of `python -m keras_cbpnet.train` on the same images under another setting; a seed draws images,
class order and weights. Final average accuracy over all classes, the default and the best setting of each entry, and
the difference. A command that was killed goes on in its --work folder.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT, shown
from benchmarks.common.tables import markdown
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import default_preset, get_preset

FLOOR = 0.005  # how far below the best setting the default may be
DATA = "DATA"  # in a setting: the data set that --whiten names
SETTINGS = {  # words for the trainer
    "default": "",
    "no views": "--views 0",
    "three views": "--views 3",
    "whitened by the first task": "--whiten task",
    "whitened by data": f"--whiten {DATA}",
    "replay of statistics": "--replay statistics",
    "cbp_surprise": "--plasticity cbp_surprise",
    "bank alone": "--method bank",
    "no bank": "--no-bank",
    "replay without bank": "--no-bank --replay statistics",
    "replay and whitened by data without bank": f"--no-bank --replay statistics --whiten {DATA}",
    "slda": "--method slda",
    "prompts": "--prompts",
}
DEFAULT = "default"


class Entry(NamedTuple):
    """Images to learn.

    Attributes:
        source: which option names the data set; empty: the trainer's default, digits.
        train, test: images of each class, drawn at random by the seed; 0: as the data set has them.
        photographs: whether the default backbone is that for photographs.
    """

    source: str = ""
    train: int = 0
    test: int = 0
    photographs: bool = False


ENTRIES = {  # the number: training images a class
    "digits": Entry(),
    "photos 5": Entry("photos", 5, 10, True),
    "photos 15": Entry("photos", 15, 10, True),
    "photos 30": Entry("photos", 30, 10, True),
    "CIFAR-100 30": Entry("cifar", 30, 20),
}


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m benchmarks.defaults", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--photos", metavar="SPEC", help="photographs, as --dataset of the trainer; not given: no entry with them")
    add("--cifar", metavar="SPEC", help="small images of many classes, likewise")
    add("--whiten", metavar="SPEC", help="data like that of the pretraining; not given: no setting with it")
    known = ", ".join(ENTRIES)
    add("--entries", type=runs.names_of("entry", ENTRIES), default=list(ENTRIES), metavar="E,E,...", help=f"of {known}")
    add("--settings", type=settings_of, default=list(SETTINGS), metavar="S,S,...", help="of " + ", ".join(SETTINGS))
    add("--options", default="", metavar="WORDS", help="options of the trainer for every run, such as --no-qat")
    add("--seeds", type=cli.seed_list, default=[0, 1], metavar="S,S,...", help="seeds of images, orders and weights")
    add("--work", type=Path, default=Path("runs/defaults"), help="folder of the run folders")
    add("--json", type=results.output_file, metavar="OUT", help="file for the results; replaced if it exists")
    return parser


def settings_of(text: str) -> list[str]:
    """Return the settings in `text`, with commas between; the default is always among them."""
    given = runs.names_of("setting", SETTINGS)(text)
    return [DEFAULT, *(name for name in given if name != DEFAULT)]


def main(argv: Sequence[str] | None = None) -> int:
    """Train under every setting, print the tables, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    commit = results.commit(ROOT)
    sources = {"": "digits", "photos": args.photos, "cifar": args.cifar}
    settings = {name: SETTINGS[name] for name in args.settings if args.whiten or DATA not in SETTINGS[name]}
    found: dict[str, dict[str, Any]] = {}
    for name in args.entries:
        entry = ENTRIES[name]
        if spec := sources[entry.source]:
            found[name] = {}
            specs = {seed: drawn(spec, entry, seed, args.work) for seed in args.seeds}
            for setting, words in settings.items():
                options = shlex.split(args.options) + [args.whiten if w == DATA else w for w in shlex.split(words)]
                folder = args.work / plain(name) / plain(setting)
                found[name][setting] = measure(entry, specs, options, folder)
                runs.say(f"{name}, {setting}: {runs.cell(found[name][setting])}")
    record = {
        **results.provenance("benchmarks.defaults", given, commit),
        "seeds": args.seeds,
        "options": args.options,
        "settings": settings,
        "entries": {name: ENTRIES[name]._asdict() for name in found},
        "found": found,
        "compared": {name: compared(rows) for name, rows in found.items()},
    }
    if args.json:
        results.write(args.json, record)
        runs.say(f"written: {shown(args.json)}")
    print(render(record))
    return 0


def plain(name: str) -> str:
    """Return `name` as that of a folder."""
    return name.replace(" ", "-")


def drawn(spec: str, entry: Entry, seed: int, work: Path) -> str:
    """Return the data set of the images that `seed` draws for `entry`, as a file; `spec` where all are taken.

    Raises:
        UserError: a class has too few images.
    """
    if not entry.train:
        return spec
    from keras_cbpnet.data import open_dataset

    data = open_dataset(spec, get_preset(default_preset(entry.photographs)).backbone.image_size)
    images = [(part, row, label) for part in ("train", "test") for row, label in enumerate(getattr(data, f"y_{part}"))]
    labels = np.array([label for *_, label in images])
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {"class_names": np.array(data.class_names)}
    chosen: dict[str, list[int]] = {"train": [], "test": []}
    for label, name in enumerate(data.class_names):
        order = rng.permutation(np.flatnonzero(labels == label))
        if len(order) < entry.train + entry.test:
            raise UserError(f"{spec}: {name} has {len(order)} images; give {entry.train + entry.test} of each class")
        chosen["test"] += list(order[: entry.test])  # the same for every number of training images
        chosen["train"] += list(order[entry.test : entry.test + entry.train])
    for part, rows in chosen.items():
        arrays[f"x_{part}"] = np.concatenate([data.images(images[row][0], np.array([images[row][1]])) for row in rows])
        arrays[f"y_{part}"] = labels[rows]
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{entry.source}-{entry.train}-{seed}.npz"
    np.savez(file, **arrays)
    return f"npz:{file}"


def measure(entry: Entry, specs: Mapping[int, str], options: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the final average accuracy of each seed's run, their mean and deviation."""
    accuracy = []
    for seed, spec in specs.items():
        backbone = ["--preset", default_preset(entry.photographs)]  # as for the folder that the photographs are of
        words = ["--dataset", spec, *backbone, "--seed", str(seed), *options]
        accuracy.append(run(words, folder / f"seed-{seed}"))
    std = statistics.stdev(accuracy) if len(accuracy) > 1 else None
    return {"average_accuracy": accuracy, "mean": statistics.fmean(accuracy), "std": std}


def run(words: Sequence[str], folder: Path) -> float:
    """Return the final average accuracy of the trainer with `words`, from its run folder if it is finished."""
    from keras_cbpnet.train import main as train

    asked, metrics = folder.with_suffix(".json"), folder / "metrics.json"
    if not (metrics.exists() and asked.exists() and json.loads(asked.read_text()) == list(words)):
        with contextlib.redirect_stdout(sys.stderr):
            train([*words, "--output", str(folder)])
        asked.write_text(json.dumps(list(words)))
    return float(json.loads(metrics.read_text())["average_accuracy"])


def compared(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Return the best setting of an entry, and every setting's difference to the default with its 95 % interval."""
    default = rows[DEFAULT]["average_accuracy"]
    return {
        "best": max(rows, key=lambda name: (rows[name]["mean"], name == DEFAULT)),
        "differences": {name: results.paired(row["average_accuracy"], default) for name, row in rows.items()},
    }


def render(record: dict[str, Any]) -> str:
    """Return the tables of a result: each entry's default and best, then every setting's difference to the default."""
    summary = [["", "default", "best setting", "its accuracy", "default minus best, points"]]
    for name, rows in record["found"].items():
        best = record["compared"][name]["best"]
        below = rows[DEFAULT]["mean"] - rows[best]["mean"]
        mark = "" if below >= -FLOOR else " (more than 0.5)"
        summary.append([name, runs.cell(rows[DEFAULT]), best, runs.cell(rows[best]), f"{100 * below:+.1f}{mark}"])
    table = [["setting", *record["found"]]]
    for setting, words in record["settings"].items():
        label = f"{setting}: `{words}`" if words else f"{setting}, accuracy"
        table.append(
            [label, *(cell(rows, record["compared"][name], setting) for name, rows in record["found"].items())]
        )
    seeds, options = ", ".join(map(str, record["seeds"])), record["options"]
    head = f"Final average accuracy, %, five tasks, seeds {seeds}" + (
        f"; every run with `{options}`" if options else ""
    )
    words = "Difference of each setting to the default, points, and the half width of its 95 % interval, seed by seed:"
    return "\n\n".join([head, markdown(summary), words, markdown(table)])


def cell(rows: Mapping[str, Any], found: Mapping[str, Any], setting: str) -> str:
    """Return a setting's difference to the default in points, with its interval; the default's own accuracy."""
    if setting == DEFAULT:
        return runs.cell(rows[setting])
    pair = found["differences"][setting]
    half = pair["high"] - pair["difference"]
    return f"{100 * pair['difference']:+.1f}" + (f" ± {100 * half:.1f}" if np.isfinite(half) else "")


if __name__ == "__main__":
    sys.exit(cli.run(main))
