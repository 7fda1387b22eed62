"""Train CBPNet on a stream of tasks: `python -m keras_cbpnet.train --dataset digits --output RUN`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_cbpnet import cli
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.presets import PRESETS

METHODS = ("cbpnet",)


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser; its defaults are those of `TrainConfig`."""
    c = TrainConfig()
    parser = cli.ArgumentParser(prog="python -m keras_cbpnet.train", description=__doc__)
    add = parser.add_argument
    add("--preset", choices=list(PRESETS), default=c.preset, help="backbone")
    add("--dataset", default=c.dataset, help="digits, cifar100, imagenet_r, folder:PATH or npz:PATH")
    add("--method", choices=METHODS, default="cbpnet", help="what is trained")
    add("--tasks", type=int, default=c.tasks, help="number of tasks the classes are split into")
    add("--device-tasks", type=int, default=c.device_tasks, help="last tasks, left to the device")
    add("--epochs", type=int, default=c.epochs, help="passes over each task's images")
    add("--seed", type=int, default=c.seed, help="of class order, weights and batches")
    add("--output", type=Path, default=Path("runs/run"), help="run folder to write")
    add("--block", choices=("prototype", "mlp", "residual"), default=c.block, help="form of the head's block")
    add("--units", type=int, default=c.units, help="hidden units of the block")
    add("--slots", type=int, default=c.slots, help="class slots; 0: the data set's classes, up to a multiple of 16")
    add("--batch", type=int, default=c.batch, help="rows of a training step of the head")
    add("--learning-rate", type=float, default=c.learning_rate, help="of the head")
    add("--prompt-learning-rate", type=float, default=c.prompt_learning_rate, help="of the prompts")
    add("--decay-rate", type=float, default=c.decay_rate, help="of the utility traces")
    add("--replacement-rate", type=float, default=c.replacement_rate, help="rebirths per step and mature unit")
    add("--maturity-threshold", type=int, default=c.maturity_threshold, help="steps a unit is protected for")
    add("--replay", choices=("none", "statistics"), default=c.replay, help="what half of each batch is drawn from")
    parser.add_argument(
        "--qat", action=argparse.BooleanOptionalAction, default=c.qat, help="train through int8 fake quantizers"
    )
    add("--json", action="store_true", help="print the metrics as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train, write the run folder, print where it is and how good it became."""
    args = build_parser().parse_args(argv)
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    config = TrainConfig(**{name: getattr(args, name) for name in names})
    for name in ("tasks", "epochs", "units", "batch"):
        if getattr(config, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(config, name)}")

    from keras_cbpnet.training.trainer import train

    with cli.progress_lines(total=(config.tasks - config.device_tasks) * config.epochs) as progress:
        metrics = train(config, args.output, progress)
    if args.json:
        print(json.dumps({"output": str(args.output), **metrics}))
        return 0
    print(f"{args.output}: average accuracy {metrics['average_accuracy']:.3f}, forgetting {metrics['forgetting']:.3f}")
    print(f"next: python tflite/convert.py {args.output}")
    return 0


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
