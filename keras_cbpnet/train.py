"""Train CBPNet on a stream of tasks: `python -m keras_cbpnet.train --dataset digits --output RUN`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firmware_host.bundle.contract import BLOCKS
from firmware_host.shared.arguments import command_line, data_argument, folder_argument, seed_argument
from keras_cbpnet import cli
from keras_cbpnet.boards import AUTO, BOARDS
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data.sources import find_source, source_names
from keras_cbpnet.lazy import callable_module
from keras_cbpnet.presets import PRESETS, default_preset
from keras_cbpnet.tables import METHODS, RULES, SELECTIONS, STREAMS

DEFAULT_OUTPUT = Path("runs/run")
BESIDE = ("jobs", "output", "seeds", "tensorboard", "bundle")  # options that are no settings of a run
callable_module(__name__, "keras_cbpnet.api")


def build_parser(names: Mapping[str, str] = cli.MODULES) -> cli.ArgumentParser:
    """Return the command line's parser; its defaults are those of `TrainConfig`, unless the preset has others."""
    c = TrainConfig()
    parser = cli.ArgumentParser(prog=names["train"], description=__doc__)
    add = parser.add_argument
    add(
        "--preset",
        choices=[*PRESETS, AUTO],
        help=f"backbone, or {AUTO} for the most accurate that suits --board (default: {default_preset(True)} for "
        f"photographs, {default_preset(False)} for small images)",
    )
    add("--board", choices=list(BOARDS), help=f"board that --preset {AUTO} picks for, by estimates from measurements")
    add(
        "--weights",
        type=data_argument,
        metavar="PATH",
        help="weights file or hf:OWNER/NAME[@REVISION][/FILE], instead of the preset's",
    )
    add("--depth", type=int, default=c.depth, metavar="N", help="first encoder blocks to use; 0: all")
    add("--dataset", type=data_argument, default=c.dataset, help="data set: one of " + ", ".join(source_names()))
    add("--method", choices=list(METHODS), default=c.method, help="method to train")
    add(
        "--plasticity",
        default=c.plasticity,
        metavar="RULE",
        help=f"learning rule of the block, with settings as in l2:decay=1; one of {', '.join(RULES)}",
    )
    add("--paper", action="store_true", help="CBPNet as published: prompts and block, without the bank")
    add("--prompts", action=argparse.BooleanOptionalAction, default=c.prompts, help="prompts of method cbpnet")
    add("--bank", action=argparse.BooleanOptionalAction, default=c.bank, help="bank beside the block of method cbpnet")
    add("--views", type=int, default=c.views, help="views of each image as other cameras might take it, for the bank")
    add("--expert-length", type=int, default=c.expert_length, help="rows of an expert prompt's prefixes")
    add("--prompt-tasks", type=int, default=c.prompt_tasks, help="first tasks that train prompts; 0: all")
    add(
        "--prompt-selection",
        choices=list(SELECTIONS),
        default=c.prompt_selection,
        help="selection of the expert prompt, for cbpnet and dualprompt: by key, or one for all images, in one pass",
    )
    add(
        "--query-depth",
        type=int,
        default=c.query_depth,
        metavar="N",
        help="encoder blocks of the pass that selects by key; 0: all",
    )
    add(
        "--stream",
        choices=list(STREAMS),
        default=c.stream,
        help="kind of stream: new classes, labels used again, or new domains",
    )
    add("--tasks", type=int, default=c.tasks, help="number of tasks; for --stream domain, of domains, or 0")
    add("--ways", type=int, default=c.ways, help="classes of a task of the drifting stream")
    add("--shots", type=int, default=c.shots, help="training images per class of the drifting stream")
    add("--device-tasks", type=int, default=c.device_tasks, help="number of last tasks that are left to the device")
    add("--epochs", type=int, default=c.epochs, help="passes over each task's images, prompts and head")
    add(
        "--head-epochs",
        type=int,
        default=c.head_epochs,
        help="passes over each task's features after those, head alone",
    )
    add("--seed", type=seed_argument, default=c.seed, help="seed of class order, weights and batches")
    add(
        "--seeds",
        type=cli.seed_list,
        metavar="S,S,...",
        help="seeds of several runs, each in a folder, with their mean",
    )
    add("--jobs", type=int, default=1, metavar="N", help="runs of --seeds at a time; -1: one a core")
    add("--output", type=folder_argument, default=DEFAULT_OUTPUT, help="run folder to write")
    add(
        "--bundle",
        type=folder_argument,
        metavar="DIR",
        help="bundle folder that the finished run is converted into at once, which spares the start of another process",
    )
    add("--block", choices=list(BLOCKS), default=c.block, help="form of the head's block")
    add("--units", type=int, default=c.units, help="hidden units of the block")
    add("--slots", type=int, default=c.slots, help="class slots; 0: the data set's classes, up to a multiple of 16")
    add("--batch", type=int, default=c.batch, help="rows of a training step of the head")
    add("--learning-rate", type=float, default=c.learning_rate, help="learning rate of the head")
    add("--prompt-learning-rate", type=float, default=c.prompt_learning_rate, help="learning rate of the prompts")
    add("--decay-rate", type=float, default=c.decay_rate, help="decay rate of the utility traces")
    add("--replacement-rate", type=float, default=c.replacement_rate, help="unit resets per step and mature unit")
    add(
        "--maturity-threshold", type=int, default=c.maturity_threshold, help="steps for which a reset unit is protected"
    )
    add("--replay", choices=("none", "statistics"), default=c.replay, help="source of half of each batch")
    parser.add_argument(
        "--whiten",
        nargs="?",
        const="task",
        type=data_argument,
        default=c.whiten,
        metavar="SPEC",
        help="whitening transform: none, task (from the first task), or from a data set like that of pretraining",
    )
    add(
        "--adapt",
        default=c.adapt,
        metavar="none|alore",
        help="adaptation of the backbone to the first task's images, merged into its weights: for images unlike "
        "photographs; with settings as in alore:experts=4,rank=16",
    )
    add(
        "--qat",
        action=argparse.BooleanOptionalAction,
        default=c.qat,
        help="quantization-aware training, through int8 fake quantizers",
    )
    add("--tensorboard", action="store_true", help="TensorBoard events, written into the run folder")
    add("--json", action="store_true", help="JSON output of the metrics")
    return parser


def main(argv: Sequence[str] | None = None, names: Mapping[str, str] = cli.MODULES) -> int:
    """Train, write the run folder, print where it is and how good it became; `names`: how commands are started."""
    parser = build_parser(names)
    parser.parse_args(argv)
    for action in parser._actions:  # now only what is given
        action.default = argparse.SUPPRESS
    given = vars(parser.parse_args(argv))
    in_json = given.pop("json", False)
    output = given.setdefault("output", DEFAULT_OUTPUT)
    find_source(given.get("dataset", TrainConfig().dataset))  # a wrong name is refused before NumPy is imported
    from keras_cbpnet.api import plan, train
    from keras_cbpnet.export.check import refusal
    from keras_cbpnet.export.report import read_report, summary
    from keras_cbpnet.training.workers import find_place

    config, _ = plan({name: value for name, value in given.items() if name not in BESIDE})
    seeds, bundle = given.get("seeds"), given.get("bundle")
    place = find_place(config)
    with cli.progress_lines(total=len(seeds or [0]) * lines(config)) as progress:
        run = train(**given, progress=progress)
    metrics = run.metrics
    if place.rank:
        print(f"{output}: worker {place.rank} of {place.size} is done; worker 0 has written it")
        return 0
    report = {} if bundle is None else read_report(bundle)
    if in_json:
        made = {} if bundle is None else {"bundle": {"output": str(bundle), **report}}
        print(json.dumps({"output": str(output), **metrics, **made}))
        return 0
    shown = [name for name in ("average_accuracy", "forgetting", "first_20", "last_100") if name in metrics]
    print(f"{output}: " + ", ".join(f"{name.replace('_', ' ')} {text(metrics[name])}" for name in shown))
    if bundle is not None:
        print("\n".join(summary(bundle, report)))
        print("next:", command_line(*names["device"].split(), "selftest", bundle))
    elif not seeds and refusal(config) is None:
        print("next:", command_line(*names["convert"].split(), output))
    return 0


def lines(config: TrainConfig) -> int:
    """Return about how many lines of progress a run has."""
    return max(1, config.tasks - config.device_tasks) * (config.epochs * config.prompts + 2)


def text(value: Any) -> str:
    """Return a metric, or its mean and deviation over seeds, for people."""
    if isinstance(value, dict):
        deviation = "" if value["std"] is None else f" ± {value['std']:.3f}"
        return f"{value['mean']:.3f}{deviation}"
    return f"{value:.3f}"


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
