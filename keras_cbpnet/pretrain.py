"""Pretrain a backbone: `python -m keras_cbpnet.pretrain --data npz:PATH --output WEIGHTS.npz`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from keras_cbpnet import cli
from keras_cbpnet.errors import UserError


def build_parser() -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog="python -m keras_cbpnet.pretrain", description=__doc__)
    parser.add_argument("--preset", default="vit_nano_32", help="backbone to train")
    parser.add_argument("--data", required=True, metavar="SPEC", help="labelled images: npz:PATH, folder:PATH, ...")
    parser.add_argument("--output", required=True, type=Path, help="weights file to write (.npz)")
    parser.add_argument("--work", type=Path, help="folder of checkpoint and log; default: beside the output")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the training images")
    parser.add_argument("--batch", type=int, default=128, help="images of a step")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="AdamW's peak, after one epoch of warm-up")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="AdamW's, on kernels")
    parser.add_argument("--label-smoothing", type=float, default=0.1, help="of the cross-entropy")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing weights file")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train, resuming from the work folder's checkpoint if there is one, and write the weights."""
    args = build_parser().parse_args(argv)
    if args.output.exists() and not args.overwrite:
        raise UserError(f"{args.output} exists; choose another --output or give --overwrite")
    for name in ("epochs", "batch"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(args, name)}")
    import keras

    from keras_cbpnet.data import load_dataset
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.weights import save_weights
    from keras_cbpnet.presets import get_preset
    from keras_cbpnet.training.augment import AugmentedImages

    config = get_preset(args.preset).backbone
    data = load_dataset(args.data, config.image_size)
    work = args.work or args.output.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(args.seed)
    backbone = Backbone(config, name="backbone")
    images = keras.Input((config.image_size, config.image_size, 3))
    logits = keras.layers.Dense(len(data.class_names), name="classifier")(backbone(images, training=True))
    model = keras.Model(images, logits)

    steps = len(data.x_train) // args.batch
    warmup = min(steps, steps * args.epochs // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps * args.epochs - warmup, warmup_target=args.learning_rate, warmup_steps=warmup
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=args.weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=0.998
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "scale", "offset", "position", "class_token"])
    model.compile(
        optimizer,
        # One-hot targets, because the sparse loss has no smoothing.
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=args.label_smoothing),
        metrics=["accuracy"],
    )
    log = work / "log.csv"
    done = max(0, len(log.read_text().splitlines()) - 1) if log.exists() else 0
    train = AugmentedImages(data.x_train, data.y_train, len(data.class_names), args.batch, args.seed, epoch=done)
    test = (data.x_test.astype("float32"), keras.utils.to_categorical(data.y_test, len(data.class_names)))
    started = time.perf_counter()
    model.fit(
        train,
        epochs=args.epochs,
        shuffle=False,  # the batches are shuffled already, by the seed
        validation_data=test,
        verbose="auto" if sys.stderr.isatty() else 2,
        callbacks=[
            keras.callbacks.CSVLogger(log, append=True),
            keras.callbacks.BackupAndRestore(work / "backup", delete_checkpoint=False),
        ],
    )
    accuracy = float(model.evaluate(*test, verbose=0)[1])  # of the averaged weights, which fit leaves in the model
    save_weights(backbone, args.output)
    result = {
        "preset": args.preset,
        "parameters": backbone.count_params(),
        "test_accuracy": accuracy,
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "arguments": {key: str(value) for key, value in vars(args).items()},
        "output": str(args.output),
    }
    args.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else f"{args.output}: top-1 {accuracy:.3f} on the held-out images")
    return 0


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
