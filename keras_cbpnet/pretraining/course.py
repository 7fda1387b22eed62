"""The pretraining of a backbone, from data to weights file; one linear file."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from keras_cbpnet.data import load_dataset
from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.calibration import calibrate
from keras_cbpnet.models.weights import copy_weights, load_preset_weights, save_weights
from keras_cbpnet.presets import get_preset
from keras_cbpnet.pretraining.augmentation import AugmentedImages
from keras_cbpnet.pretraining.distillation import Pupil, teacher_tokens, whiten
from keras_cbpnet.training.features.cache import fingerprint
from keras_cbpnet.training.run import write_json

WARMUP = 0.1  # share of the steps
QAT_RATE = 0.2  # of the learning rate, with quantizers in the loop
CUT_CELLS = 2  # of the teacher's patches, kept for each of the student's in either direction, to cut from
CALIBRATION = 512  # images that set the quantizers' first ranges
WHITENING = 20_000  # images whose covariance whitens
PLAIN = ["bias", "scale", "offset", "position", "class_token"]  # weights that do not decay


def pretrain(args: argparse.Namespace) -> dict[str, Any]:
    """Train as the command line says, write the weights and the log, and return the log.

    Args:
        args: of `python -m keras_cbpnet.pretrain`, checked.
    """
    if args.qat_epochs and keras.backend.backend() != "tensorflow":
        raise UserError(f"--qat-epochs needs KERAS_BACKEND=tensorflow, not {keras.backend.backend()}; give 0 here")
    config = get_preset(args.preset).backbone
    data = load_dataset(args.data, config.image_size)
    if len(data.x_train) < args.batch:
        raise UserError(f"--batch {args.batch} is more than the {len(data.x_train)} training images")
    work = args.work or args.output.with_suffix(".work")
    log = Log(args.output.with_suffix(".json"), work, args)

    keras.utils.set_random_seed(args.seed)
    backbone = Backbone(config, name="backbone")
    backbone.build()
    if args.start:
        load_preset_weights(backbone, get_preset(args.preset), args.start)
    grid = round((backbone.embedding.tokens - 1) ** 0.5)
    weights = {"label": args.label_weight}
    teacher, width = None, 0
    if args.teacher:
        weights.update(feature=args.feature_weight, patches=args.patch_weight)
        finer = grid * (1 if args.area == 1 else CUT_CELLS)
        teacher = taught(args.teacher, args.teacher_weights, data, finer, work / "teacher.npy", say)
        width = teacher.shape[-1]
    classes = len(data.class_names)
    batches = AugmentedImages(
        data.x_train,
        data.y_train,
        classes,
        args.batch,
        args.seed,
        args.shift,
        args.mixup,
        args.cutmix,
        teacher,
        grid,
        args.area,
    )
    some = np.random.default_rng(args.seed).permutation(len(data.x_train))

    def pupil_of(body: Backbone) -> Pupil:
        pupil = Pupil(body, classes, width, weights, args.label_smoothing)
        pupil.build()
        return pupil

    pupil = pupil_of(backbone)
    course = Course(args, data, batches, work, log)
    course.run(pupil, "backup", 0, args.epochs, args.learning_rate)
    if args.qat_epochs:
        quantized = pupil_of(Backbone(config, quantized=True, name="backbone"))
        raise_class_token(backbone, data.x_train[some[:CALIBRATION]])
        copy_weights(pupil, quantized)
        calibrate(quantized, quantized, data.x_train[some[:CALIBRATION]])
        last = args.epochs + args.qat_epochs
        course.run(quantized, "backup_qat", args.epochs, last, args.learning_rate * QAT_RATE)
        copy_weights(quantized, pupil)
    if config.whitening:
        seen = some[:WHITENING]
        whiten(backbone, data.x_train[seen], data.y_train[seen], args.shrinkage)
    save_weights(backbone, args.output)
    log.write(parameters=backbone.count_params())
    return log.contents


def say(line: str) -> None:
    """Show a line above the bar, if there is one."""
    tqdm.write(line, file=sys.stderr)


class Course:
    """Trains on epochs of one stream of batches, each stretch of epochs with its own schedule and checkpoint."""

    def __init__(
        self,
        args: argparse.Namespace,
        data: Dataset,
        batches: AugmentedImages,
        work: Path,
        log: Log,
    ) -> None:
        self.args, self.data, self.batches, self.work, self.log = args, data, batches, work, log

    def run(self, pupil: Pupil, name: str, first: int, last: int, rate: float) -> None:
        """Train `pupil` from epoch `first` to before `last`, or go on from the checkpoint `name`.

        The weights are their moving average afterwards: fit leaves it in the model.
        """
        if pupil.backbone.config.whitening:
            pupil.backbone.whitening.trainable = False
        pupil.compile(adamw(self.args, len(self.batches) * (last - first), rate))
        pupil.fit(
            self.batches,
            epochs=last - first,
            shuffle=False,  # the batches are shuffled already, by the seed
            verbose=0,
            callbacks=[
                keras.callbacks.BackupAndRestore(self.work / name, delete_checkpoint=False),
                Follow(self, first, self.args.epochs + self.args.qat_epochs),
            ],
        )
        self.log.add(epoch=f"averaged after {last}", accuracy=accuracy(pupil, self.data))


def raise_class_token(backbone: Backbone, images: np.ndarray) -> None:
    """Scale the class token up to the length of the patches that it shares an int8 tensor with.

    Layer normalization sees no difference; the little that changes is learned again with quantizers in the loop.
    """
    tokens = np.asarray(backbone.embed(images))  # (N, 1 + patches, d)
    first, rest = (np.sqrt(np.mean(np.square(part))) for part in (tokens[:, :1], tokens[:, 1:]))
    if first < rest / 2:
        token, position = (np.asarray(v) for v in (backbone.embedding.class_token, backbone.embedding.position))
        backbone.embedding.class_token.assign(token + (rest / 2 / first - 1) * (token + position[:, :1]))


def adamw(args: argparse.Namespace, steps: int, rate: float) -> keras.optimizers.Optimizer:
    """Return AdamW with warm-up to `rate`, cosine schedule over `steps` and a moving average of the weights."""
    warmup = max(1, int(steps * WARMUP))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), warmup_target=rate, warmup_steps=warmup
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=args.weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=args.ema
    )
    optimizer.exclude_from_weight_decay(var_names=PLAIN)
    return optimizer


def taught(
    name: str, weights: Path | None, data: Dataset, grid: int, file: Path, show: Callable[[str], None]
) -> np.ndarray:
    """Return the outputs of the preset `name` on the training images, as `teacher_tokens`."""
    teacher = Backbone.from_preset(name, weights)
    variables = b"".join(np.asarray(v).tobytes() for v in teacher.weights)
    return teacher_tokens(
        teacher, data.x_train, grid, file, fingerprint(name, variables, data.x_train.tobytes(), str(grid)), show
    )


def accuracy(pupil: Pupil, data: Dataset) -> float:
    """Return the top-1 accuracy on the held-out images."""
    parts = [
        np.asarray(pupil.predict_on_batch(data.x_test[i : i + 250].astype(np.float32))["label"]).argmax(axis=1)
        for i in range(0, len(data.x_test), 250)
    ]
    return float(np.mean(np.concatenate(parts) == data.y_test))


class Log:
    """One JSON file beside the weights: arguments, and a record an epoch; rewritten whole.

    Args:
        file: to write.
        work: folder of the checkpoint, made here; it remembers the arguments that it belongs to.
        args: of the command.

    Raises:
        UserError: the work folder belongs to a training with other arguments.
    """

    def __init__(self, file: Path, work: Path, args: argparse.Namespace) -> None:
        values = {key: v if isinstance(v, (int, float)) else str(v or "") for key, v in vars(args).items()}
        same = {key: value for key, value in values.items() if key not in ("output", "work", "overwrite", "json")}
        owner = work / "arguments.json"
        if owner.exists():
            found = json.loads(owner.read_text())
            other = [f"--{key.replace('_', '-')} {found.get(key)}" for key in same if found.get(key) != same[key]]
            if other:
                raise UserError(
                    f"{work} holds the checkpoint of a training with {', '.join(other)}; "
                    "repeat its arguments, choose another --work or remove the folder"
                )
        work.mkdir(parents=True, exist_ok=True)
        write_json(owner, same)
        self.file = file
        self.contents: dict[str, Any] = {
            "preset": args.preset,
            "backend": keras.backend.backend(),
            "arguments": values,
            "epochs": [],
        }
        if file.exists() and (work / "backup").exists():
            self.contents["epochs"] = json.loads(file.read_text())["epochs"]

    def add(self, **record: Any) -> None:
        """Add the record of an epoch, in place of an earlier record of the same one."""
        records = {old["epoch"]: old for old in self.contents["epochs"]}
        self.contents["epochs"] = list({**records, record["epoch"]: record}.values())
        self.write()

    def write(self, **values: Any) -> None:
        """Write the file, with `values` added."""
        self.contents.update(values)
        write_json(self.file, self.contents)


class Follow(keras.callbacks.Callback):
    """Gives the batches their epoch, writes the log; on a terminal a bar with the time left, elsewhere a line an epoch.

    Args:
        course: that it follows.
        first: number of the first epoch.
        total: number of epochs of all stretches.
    """

    def __init__(self, course: Course, first: int, total: int) -> None:
        super().__init__()
        self.course, self.first, self.total = course, first, total
        self.begun: tuple[int, float] | None = None
        self.bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = time.perf_counter()
        self.begun = self.begun or (epoch, self.started)
        self.course.batches.begin_epoch(self.first + epoch)
        if self.bar is None:
            steps = len(self.course.batches)
            epochs = self.params["epochs"]
            self.bar = tqdm(total=epochs * steps, initial=epoch * steps, unit="step", leave=False, disable=None)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.update()

    def on_train_end(self, logs: Any = None) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now, number = time.perf_counter(), self.first + epoch
        found, loss = accuracy(self.model, self.course.data), float((logs or {})["loss"])
        seconds = round(now - self.started, 1)
        self.course.log.add(epoch=number, loss=loss, accuracy=found, seconds=seconds)
        assert self.begun is not None  # noqa: S101
        left = (now - self.begun[1]) / (epoch + 1 - self.begun[0]) * (self.total - number - 1) / 60
        say(
            f"epoch {number + 1} of {self.total}: loss {loss:.3f}, held-out top-1 {found:.3f}, {seconds:.0f} s, "
            f"{left:.0f} min left"
        )
