"""The pretraining of a backbone, from data to weights file; one linear file."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.data import open_dataset
from keras_cbpnet.data.record import RECORD
from keras_cbpnet.errors import UserError
from keras_cbpnet.locks import locked
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.calibration import calibrate
from keras_cbpnet.models.weights import copy_weights, load_preset_weights, save_weights
from keras_cbpnet.presets import get_preset
from keras_cbpnet.pretraining.augmentation import AugmentedImages
from keras_cbpnet.pretraining.distillation import Pupil, teacher_tokens, whiten
from keras_cbpnet.pretraining.images import Images, prepared
from keras_cbpnet.pretraining.inherit import check_inheritance, inherit
from keras_cbpnet.pretraining.log import Log
from keras_cbpnet.pretraining.room import Room
from keras_cbpnet.seeds import folded
from keras_cbpnet.training.features.cache import fingerprint
from keras_cbpnet.training.run import write_json

WARMUP = 0.1  # share of the steps
QAT_RATE = 0.2  # of the learning rate, with quantizers in the loop
CUT_CELLS = 2  # of the teacher's patches, kept for each of the student's in either direction, to cut from
CALIBRATION = 512  # images that set the quantizers' first ranges
WHITENING = 20_000  # images whose covariance whitens
INHERITANCE = 240  # images on which the teacher's hidden units are watched
OUTPUT_IMAGES = 2000  # that the outputs of weights to start with are fitted to
HELD_OUT = 1000  # images on which teacher and student are compared
PLAIN = ["bias", "scale", "offset", "position", "class_token", "register_tokens"]  # weights that do not decay


def pretrain(args: argparse.Namespace) -> dict[str, Any]:
    """Train as the command line says, write the weights and the log, and return the log.

    Args:
        args: of `python -m keras_cbpnet.pretrain`, checked.
    """
    if args.qat_epochs and keras.backend.backend() != "tensorflow":
        raise UserError(f"--qat-epochs needs KERAS_BACKEND=tensorflow, not {keras.backend.backend()}; give 0 here")
    config = get_preset(args.preset).backbone
    if args.inherit:
        check_inheritance(config, get_preset(args.teacher).backbone)
    work = args.work or args.output.with_suffix(".work")
    data = prepared(args, config.image_size, work)
    if len(data.train) < args.batch:
        raise UserError(f"--batch {args.batch} is more than the {len(data.train)} training images")
    log = Log(args.output.with_suffix(".json"), work, args)
    message = f"{work} is in use by another pretraining; wait until that has ended, or choose another --work"
    with locked(work, message):
        write_json(work / RECORD, data.record)
        follow(args, config, data, work, log)
    return log.contents


def follow(args: argparse.Namespace, config: BackboneConfig, data: Images, work: Path, log: Log) -> None:
    """Train in the work folder and write the weights; see `pretrain`."""
    keras.utils.set_random_seed(folded(args.seed))
    backbone = Backbone(config, name="backbone")
    backbone.build()
    some = np.random.default_rng(args.seed).permutation(len(data.train))
    grid = round((backbone.embedding.tokens - 1 - config.registers) ** 0.5)
    targets = {}
    if args.teacher:
        teacher = Backbone.from_preset(args.teacher, args.teacher_weights)
        finer = grid * (1 if args.area == 1 else CUT_CELLS)
        for part, images in (("train", data.seen), ("test", data.seen_test[:HELD_OUT])):
            file = work / ("teacher.npy" if part == "train" else "teacher_test.npy")
            targets[part] = taught(args.teacher, teacher, images, finer, file)
        if args.inherit:
            inherit(backbone, teacher, data.train[some[:INHERITANCE]])
        del teacher
    if args.start:
        load_preset_weights(backbone, get_preset(args.preset), args.start)
    batches = AugmentedImages(
        data.train, data.shares, args.batch, args.seed, args.shift, args.mixup, args.cutmix, targets.get("train"), grid,
        args.area,
    )  # fmt: skip
    weights = {"label": args.label_weight, "feature": args.feature_weight, "patches": args.patch_weight}
    weights = {name: weight for name, weight in weights.items() if weight and (args.teacher or name == "label")}
    sizes = {name: data.shares.shape[1] if name == "label" else targets["train"].shape[-1] for name in weights}

    def pupil_of(body: Backbone) -> Pupil:
        pupil = Pupil(body, sizes, weights, args.label_smoothing)
        pupil.build()
        return pupil

    pupil = pupil_of(backbone)
    if args.start or args.inherit:
        pupil.fit_outputs(*batches.plain(some[:OUTPUT_IMAGES]))
    course = Course(args, data, batches, work, log, targets.get("test"))
    course.run(pupil, "backup", 0, args.epochs, args.learning_rate)
    if args.qat_epochs:
        quantized = pupil_of(Backbone(config, quantized=True, name="backbone"))
        raise_class_token(backbone, data.train[some[:CALIBRATION]])
        copy_weights(pupil, quantized)
        calibrate(quantized, quantized, data.train[some[:CALIBRATION]])
        last = args.epochs + args.qat_epochs
        course.run(quantized, "backup_qat", args.epochs, last, args.learning_rate * QAT_RATE)
        copy_weights(quantized, pupil)
    if config.whitening:
        whole = open_dataset(args.data, config.image_size)
        seen = np.random.default_rng(args.seed).permutation(len(whole.y_train))[:WHITENING]
        whiten(backbone, whole.images("train", seen), whole.y_train[seen], args.shrinkage)
    save_weights(backbone, args.output)
    log.write(parameters=backbone.count_params())


def say(line: str) -> None:
    """Show a line above the bar, if there is one."""
    tqdm.write(line, file=sys.stderr)


class Course:
    """Trains on epochs of one stream of batches, each stretch of epochs with its own schedule and checkpoint."""

    def __init__(
        self,
        args: argparse.Namespace,
        data: Images,
        batches: AugmentedImages,
        work: Path,
        log: Log,
        held_out: NDArray[np.float16] | None,
    ) -> None:
        self.args, self.data, self.batches, self.work, self.log = args, data, batches, work, log
        self.held_out = held_out

    def measure(self, pupil: Pupil) -> dict[str, float]:
        """Return what is known of `pupil` on held-out images: `accuracy` (top-1) and `agreement` with the teacher.

        Agreement is the share of the variance of the teacher's feature that the pupil explains.
        """
        found = {}
        if "label" in pupil.outputs_by_name:
            guessed = self._outputs(pupil, "label", len(self.data.labels)).argmax(axis=1)
            found["accuracy"] = float(np.mean(guessed == self.data.labels))
        if self.held_out is not None and "feature" in pupil.outputs_by_name:
            wanted = self.batches.standardised(self.held_out)[0]
            error = np.mean(np.square(self._outputs(pupil, "feature", len(wanted)) - wanted))
            found["agreement"] = float(1 - error / np.mean(np.square(wanted - wanted.mean(axis=0))))
        return found

    def _outputs(self, pupil: Pupil, name: str, count: int) -> NDArray[np.float32]:
        images = self.data.test[:count].astype(np.float32)
        parts = [np.asarray(pupil.predict_on_batch(images[i : i + 250])[name]) for i in range(0, count, 250)]
        return np.concatenate(parts)

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
                Room(self.work),
                keras.callbacks.BackupAndRestore(self.work / name, delete_checkpoint=False),
                Follow(self, first, self.args.epochs + self.args.qat_epochs),
            ],
        )
        self.log.add(epoch=f"averaged after {last}", **self.measure(pupil))


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


def taught(name: str, teacher: Backbone, images: NDArray[np.uint8], grid: int, file: Path) -> NDArray[np.float16]:
    """Return `teacher_tokens` of the preset `name` on `images`, computed once into `file`."""
    variables = b"".join(np.asarray(v).tobytes() for v in teacher.weights)
    identity = fingerprint(name, variables, np.ascontiguousarray(images).data, str(grid))
    return teacher_tokens(teacher, images, grid, file, identity, say)


class Follow(keras.callbacks.Callback):
    """Gives the batches their epoch, writes the log; a bar with the time left on a terminal, else a line per epoch.

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
        found, loss = self.course.measure(self.model), float((logs or {})["loss"])
        seconds = round(now - self.started, 1)
        self.course.log.add(epoch=number, loss=loss, **found, seconds=seconds)
        assert self.begun is not None  # noqa: S101
        left = (now - self.begun[1]) / (epoch + 1 - self.begun[0]) * (self.total - number - 1) / 60
        say(
            f"epoch {number + 1} of {self.total}: loss {loss:.3f}, "
            + "".join(f"held-out {name} {value:.3f}, " for name, value in found.items())
            + f"{seconds:.0f} s, "
            + f"{left:.0f} min left"
        )
