"""Epochs of a pretraining: fitting with schedule, moving average, checkpoint, log and progress."""

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

from keras_cbpnet.models.weights import copy_weights
from keras_cbpnet.pretraining.accumulation import AccumulatingAdamW, EachStep, Parts
from keras_cbpnet.pretraining.augmentation import AugmentedImages
from keras_cbpnet.pretraining.distillation import Pupil
from keras_cbpnet.pretraining.images import Images
from keras_cbpnet.pretraining.log import Log
from keras_cbpnet.pretraining.room import Room
from keras_cbpnet.pretraining.workers import Workers

WARMUP = 0.1  # share of the steps
PLAIN = ["bias", "scale", "offset", "position", "class_token", "register_tokens", "branch"]  # do not decay


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
        workers: Workers,
    ) -> None:
        self.args, self.data, self.batches, self.work, self.log = args, data, batches, work, log
        self.held_out, self.workers = held_out, workers

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

    def run(self, pupil: Pupil, name: str, first: int, last: int, rate: float, shared: Pupil | None = None) -> None:
        """Train `pupil` from epoch `first` to before `last`, or go on from the checkpoint `name`.

        The weights are their moving average afterwards: fit leaves it in the model. Where several devices share the
        batches, `shared` is the pupil that is on all of them; `pupil` has its weights at the end of every epoch.
        """
        trained = shared or pupil
        if shared:
            copy_weights(pupil, shared)
        if trained.backbone.config.whitening:
            trained.backbone.whitening.trainable = False
        parts = self.args.accumulate
        batches = Parts(self.batches, parts) if parts > 1 else self.batches
        with self.workers.sharing():
            trained.compile(adamw(self.args, len(self.batches) * (last - first), rate))
            trained.fit(
                self.workers.part(batches),
                epochs=last - first,
                shuffle=False,  # the batches are shuffled already, by the seed
                verbose=0,
                callbacks=[
                    Room(self.work),
                    *self.workers.backup(self.work, name),
                    Follow(self, pupil, first, self.args.epochs + self.args.qat_epochs),
                ],
            )
        if shared:
            copy_weights(shared, pupil)
        self.log.add(epoch=f"averaged after {last}", **self.measure(pupil))


def adamw(args: argparse.Namespace, steps: int, rate: float) -> keras.optimizers.Optimizer:
    """Return AdamW with warm-up to `rate`, cosine schedule over `steps` and a moving average of the weights.

    Where `args.accumulate` is above 1, it takes the gradients of so many parts for each step.
    """
    warmup = max(1, int(steps * WARMUP))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), warmup_target=rate, warmup_steps=warmup
    )
    settings = {"weight_decay": args.weight_decay, "global_clipnorm": 1.0, "use_ema": True, "ema_momentum": args.ema}
    if args.accumulate > 1:
        schedule, settings["gradient_accumulation_steps"] = EachStep(schedule, args.accumulate), args.accumulate
    kind = AccumulatingAdamW if args.accumulate > 1 else keras.optimizers.AdamW
    optimizer = kind(schedule, **settings)
    optimizer.exclude_from_weight_decay(var_names=PLAIN)
    return optimizer


class Follow(keras.callbacks.Callback):
    """Gives the batches their epoch, writes the log; a bar with the time left on a terminal, else a line per epoch.

    Args:
        course: that it follows.
        pupil: measured on one device, with the weights of the model that is trained.
        first: number of the first epoch.
        total: number of epochs of all stretches.
    """

    def __init__(self, course: Course, pupil: Pupil, first: int, total: int) -> None:
        super().__init__()
        self.course, self.pupil, self.first, self.total = course, pupil, first, total
        self.begun: tuple[int, float] | None = None
        self.bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = time.perf_counter()
        self.begun = self.begun or (epoch, self.started)
        self.course.batches.begin_epoch(self.first + epoch)
        if self.bar is None:
            steps = len(self.course.batches) * self.course.args.accumulate
            epochs = self.params["epochs"]
            self.bar = tqdm(total=epochs * steps, initial=epoch * steps, unit="step", leave=False, disable=None)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.update()

    def on_train_end(self, logs: Any = None) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now, number = time.perf_counter(), self.first + epoch
        loss = float((logs or {})["loss"])
        if self.pupil is not self.model:
            copy_weights(self.model, self.pupil)
        with self.course.workers.alone():
            found = self.course.measure(self.pupil)
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
