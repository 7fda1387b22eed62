"""Smaller forms of a backbone: fewer encoder blocks, or weights that pretrain --shrink made; what each costs and gives.

    python -m benchmarks.smaller --data npz:cifar100.npz --forms 5,4,3,2 --tasks 10 --seeds 0,1,2,3,4 --time
    python -m benchmarks.smaller --data digits --forms 5,3,small.npz

Every accuracy is the final average accuracy of a run of `python -m keras_cbpnet.train` without quantization on the
images of --data in --tasks tasks, settings as of `benchmarks.class_incremental`. A command that was killed goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.backbones import CALIBRATION, int8_file
from benchmarks.class_incremental import COMMON, ROWS
from benchmarks.common import results, runs
from benchmarks.common.stages import ROOT
from benchmarks.common.tables import markdown
from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import check_weights, get_preset

METHODS = {"ncm": "nearest class mean", "slda": "streaming LDA", "mixture": "block and bank", "bank": "bank alone"}
ROUNDS = 100  # calls, of which the best is reported


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = runs.build_parser("smaller", __doc__, data=None, seeds=[0, 1, 2])
    add = parser.add_argument
    add(
        "--forms",
        required=True,
        metavar="F,F,...",
        help="forms to compare, each a number of encoder blocks of the weights or a weights file; the others are "
        "compared with the first",
    )
    add(
        "--methods",
        type=runs.names_of("method", METHODS),
        default=["ncm", "slda"],
        metavar="M,M,...",
        help="methods, of " + ", ".join(METHODS),
    )
    add("--tasks", type=int, default=10, help="tasks of new classes")
    add("--time", action="store_true", help="milliseconds of the int8 files under the interpreters that are installed")
    return parser


def form_of(text: str, args: Any) -> dict[str, Any]:
    """Return the settings of a run that a form stands for.

    Raises:
        UserError: it is neither a number nor a file.
    """
    if text.isdecimal():
        return {"depth": int(text)}
    if not Path(text).is_file():
        raise UserError(f"--forms: {text!r} is neither a number of blocks nor a weights file")
    check_weights(get_preset(args.preset), text)
    return {"weights": text}


def main(argv: Sequence[str] | None = None) -> int:
    """Run every form under every method, print a table, write the results."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    forms = {Path(text).name: form_of(text, args) for text in args.forms.split(",")}
    commit = results.commit(ROOT)
    images = runs.images_of(args)
    found: dict[str, dict[str, Any]] = {}
    files: dict[str, bytes] = {}
    for name, settings in forms.items():
        found[name], files[name] = costs({**images, **settings})
        for method in args.methods:
            config = TrainConfig(**{**COMMON, **images, **ROWS[method], **settings, "tasks": args.tasks})
            folder = args.work / f"{args.preset}-{Path(args.data).stem}-{args.tasks}-{name}-{method}"
            found[name][method] = runs.measure(config, args.seeds, folder, args.jobs)
            runs.say(f"{name}, {method}: {runs.cell(found[name][method])}")
    if args.time:
        for name, row in times(files, get_preset(args.preset).backbone.image_size).items():
            found[name]["milliseconds"] = row
    record = {
        **results.provenance("benchmarks.smaller", given, commit),
        "preset": args.preset,
        "data": Path(args.data.partition(":")[2] or args.data).stem,
        "seeds": args.seeds,
        "tasks": args.tasks,
        "per_class": args.per_class,
        "methods": args.methods,
        "forms": found,
    }
    if args.json:
        results.write(args.json, record)
    print(render(record))
    return 0


def costs(settings: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return parameters, multiply-adds and bytes of a form's int8 backbone.tflite, and that file."""
    from keras_cbpnet.data import open_dataset
    from keras_cbpnet.export.tflite_file.macs import multiply_adds
    from keras_cbpnet.models.backbone import Backbone

    weights = settings["weights"] or None
    backbone = Backbone.from_preset(settings["preset"], weights, depth=settings.get("depth", 0))
    data = open_dataset(settings["dataset"], backbone.config.image_size)
    some = np.random.default_rng(0).permutation(len(data.y_train))[:CALIBRATION]
    file = int8_file(backbone, data.images("train", some))
    sizes = {"parameters": backbone.count_params(), "multiply_adds": multiply_adds(file), "bytes": len(file)}
    return sizes, file


def times(files: dict[str, bytes], size: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds that each file takes for an image, by interpreter; the files take turns."""
    from firmware_host.shared.runtimes import installed_interpreters
    from keras_cbpnet.export.runtimes import time_backbones

    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    by_runtime = {name: time_backbones(files, image, name, ROUNDS) for name in installed_interpreters()}
    return {form: {name: found[form] for name, found in by_runtime.items()} for form in files}


def render(record: dict[str, Any]) -> str:
    """Return the table of a result; in brackets what is left of, or gained over, the first row."""
    first = next(iter(record["forms"].values()))
    runtimes = list(first.get("milliseconds", {}))
    head = ["form", "parameters", "multiply-adds, M", "int8, bytes", *(f"{name}, ms" for name in runtimes)]
    rows = [[*head, *(METHODS[method] for method in record["methods"])]]
    for name, form in record["forms"].items():
        shares = {key: f"{form[key] / first[key]:.0%}" for key in ("parameters", "multiply_adds", "bytes")}
        row = [
            f"{name} blocks" if name.isdecimal() else f"`{name}`",
            f"{form['parameters']:,} ({shares['parameters']})",
            f"{form['multiply_adds'] / 1e6:.1f} ({shares['multiply_adds']})",
            f"{form['bytes']:,} ({shares['bytes']})",
        ]
        for runtime in runtimes:
            taken = form["milliseconds"][runtime]
            row.append(f"{taken:.2f} ({taken / first['milliseconds'][runtime]:.0%})")
        for method in record["methods"]:
            row.append(f"{runs.cell(form[method])} ({100 * (form[method]['mean'] - first[method]['mean']):+.1f})")
        rows.append(row)
    seeds = ", ".join(map(str, record["seeds"]))
    images = runs.images_shown(record)
    what = f"{record['preset']}, {record['data']}, {record['tasks']} tasks, {images}, seeds {seeds}"
    return "\n".join([f"{what}; final average accuracy, %", "", markdown(rows)])


if __name__ == "__main__":
    sys.exit(cli.run(main))
