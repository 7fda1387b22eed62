"""A device: a bundle, what it has learned since, and the runtime that computes both."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.bundle import DeviceError, read_bundle
from firmware_host.class_names import ClassNames
from firmware_host.engines.backbone import Backbone
from firmware_host.engines.find import find_runtime, open_backbone
from firmware_host.engines.protocol import Array
from firmware_host.evaluation import Seen, accuracy, check_lengths
from firmware_host.images import ImageLike
from firmware_host.images.ahead import default_jobs
from firmware_host.intake import Intake
from firmware_host.learning import learner
from firmware_host.learning.camera import Camera
from firmware_host.learning.consolidation import check_consolidates
from firmware_host.learning.knowledge import Knowledge
from firmware_host.learning.lessons import Lessons
from firmware_host.learning.start import generator_state, start_head, start_snapshot
from firmware_host.learning.teaching import teach
from firmware_host.learning.transaction import Transaction
from firmware_host.learning.working_state import WorkingState
from firmware_host.prediction import UNKNOWN_RATE, Prediction, predicted
from firmware_host.shared.arguments import given_path
from firmware_host.state import StateFolder, state_path

__all__ = ["DEFAULT_EPOCHS", "UNKNOWN_RATE", "Device", "Prediction"]

DEFAULT_EPOCHS = 20
logger = logging.getLogger(__name__)


class Device(ClassNames, Intake):
    """Predicts, learns, and keeps what it learned; make one with `Device.open`.

    Nothing is written before `save()`, except where `learn` is told to save on its way; the bundle never changes. From
    the first change on, no other process can write into the state folder until `close()`. `max_memory_mb` limits what
    reading image files may take the whole process to, in MiB; None: 2 GiB for the images. `jobs` threads read files
    ahead; 1: none does. `unknown_rate`: share of images of known classes that may be called unknown. `knowledge`: what
    it knows, to look at and to carry away. Where the bundle takes recordings, these are its images.
    """

    def __init__(
        self, backbone: Backbone, working: WorkingState, runtime: str, folder: StateFolder, lessons: Lessons
    ) -> None:
        self.bundle = folder.bundle
        self.runtime = runtime
        self.max_memory_mb = None
        self.jobs = default_jobs()
        self.unknown_rate = UNKNOWN_RATE
        self._backbone = backbone
        self._working = working
        self._folder = folder
        self._lessons = lessons
        self.camera = Camera(working, lessons, self.features)
        self.knowledge = Knowledge(working, folder, lessons)

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        state: str | Path | None = None,
        runtime: str = "auto",
        threads: int = 1,
        seed: int | None = None,
        recipe: str | None = None,
        depth: int | None = None,
    ) -> Device:
        """Open a bundle and what was learned with it.

        Args:
            bundle: the folder that tflite/convert.py wrote.
            state: the folder of the learned state; None: beside the bundle, `BUNDLE.state`. It need not exist yet.
            runtime: a name of the table in firmware_host/shared/runtimes.py, such as `numpy` (head in NumPy, backbone
                as in `auto`); `auto`: the first interpreter there that is installed.
            threads: threads of the interpreter.
            seed: of the random numbers used in learning; None: go on from the saved state (0 where there is none).
            recipe: of the backbone, where the bundle has several; None: the one that suits the runtime.
            depth: encoder blocks to run, where the bundle has several numbers of them; None: all that it has.

        Raises BundleError for a damaged bundle, DeviceError for a state that is damaged or of another bundle and for
        a runtime that is not there.
        """
        opened = read_bundle(given_path(bundle, "bundle"))
        folder = StateFolder(state_path(opened.path, state), opened)
        learned = folder.read()
        chosen = find_runtime(runtime, recipe, depth)
        backbone = open_backbone(opened, chosen, threads)
        head = start_head(opened, chosen, threads)
        if learned is None:
            learned = start_snapshot(opened, head)
        if seed is not None:
            learned = replace(learned, generator=generator_state(seed))
        working = WorkingState(opened, head, learned, backbone.dequantize)
        lessons = Lessons(working, folder, lambda: start_snapshot(opened, start_head(opened, chosen, threads)))
        return cls(backbone, working, chosen.name, folder, lessons)

    @property
    def state_folder(self) -> Path:
        """The folder of the learned state."""
        return self._folder.path

    @property
    def rolled_back(self) -> int:
        """Training steps rolled back so far because they broke the head."""
        return self._working.rolled_back

    @property
    def written(self) -> dict[str, float]:
        """What saving cost: saves and bytes_written by this device, bytes_written_per_hour over the folder's life."""
        return self._folder.cost

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write into the state folder; what was not saved is not kept."""
        self._folder.close()

    def predict(self, image: ImageLike) -> Prediction:
        """Return the Prediction for one image (path, or uint8 RGB [h, w, 3] of any size).

        An unknown one is counted among those alike. The latency excludes reading the file. Raises DeviceError for what
        is not an image, and when no class is known.
        """
        return self._predict(image, True)

    def predict_many(self, images: Iterable[ImageLike]) -> list[Prediction]:
        """Return what `predict` does for each of the images, one after the other; raises DeviceError as it does."""
        return [self.predict(take()) for take in self._read(images)]

    def learn(
        self,
        images: Sequence[ImageLike],
        labels: Sequence[str],
        replay: str = "statistics",
        epochs: int = DEFAULT_EPOCHS,
        learning_rate: float | None = None,
        progress: learner.Progress = None,
        save_every: int = 0,
        consolidate: str | None = None,
    ) -> dict[str, Any]:
        """Learn images with their class names, all of them at once; a new name takes the next spare slot.

        Args:
            images: paths, or uint8 RGB arrays [h, w, 3].
            labels: a class name per image.
            replay: `statistics` (half of each batch drawn from the statistics of every class seen), `buffer:N` (from N
                images kept, class-balanced, as features) or `none`.
            epochs: passes over the images.
            learning_rate: Adam's step size; None: the bundle's.
            progress: called with (what, done, total) as it goes.
            save_every: training steps between two saves on the way; 0: nothing is on disk before `save()`.
            consolidate: `foster`: boosting and compression in place of training steps; without images, of all classes
                that the device was taught, from their statistics.

        Returns steps, images, replaced (units reset), loss (mean of the last epoch) and rolled_back (steps undone
        because they broke the head). Either all of it happens or, on an error or an interrupt, none of it since the
        last save. Raises DeviceError for bad input and when the state folder is in use.
        """
        settings = self._settings(replay, epochs, learning_rate, save_every, consolidate)
        if consolidate is not None:
            check_consolidates(self._working)
        if consolidate is None or len(images) or len(labels):
            check_lengths(images, labels)
        due = save_every
        with self._taking_in(images, labels, progress) as (transaction, raw, label):

            def on_sound(steps: int, rolled_back: int) -> None:
                nonlocal due
                if save_every and steps >= due:
                    self.save()
                    transaction.keep()
                    due = steps + save_every

            result = learner.learn(self._working, raw, label, settings, progress, on_sound)
        return {"images": len(label), **result._asdict(), "loss": result.loss if result.steps else None}

    def teach(
        self, image: ImageLike, label: str, replay: str = "statistics", learning_rate: float | None = None
    ) -> dict[str, Any]:
        """Learn one image, as labels come one at a time on a device in use; arguments as in `learn`.

        The class can be predicted at once. Training steps follow on batches of the last images and replayed ones: more
        while the class is new, few once it is settled, none where the label is doubted (the head is sure of another
        class; the fourth in a row is believed). What breaks the head is rolled back, counted and logged.
        Returns steps, images, replaced, loss (None without a step) and rolled_back.
        """
        settings = self._settings(replay, 1, learning_rate)
        working = self._working
        with self._taking_in([image], [label], None) as (transaction, raw, [slot]):
            working.keep(raw, np.array([slot]), settings.buffer)
            lesson = teach(working, raw[0], working.dequantize(raw[0]), int(slot), settings)
            if lesson.fault is not None:
                transaction.take_back()
                working.rolled_back += lesson.rolled_back
                logger.warning("an image of class %r is rolled back: %s", label, lesson.fault)
        return lesson.record()

    def evaluate(
        self,
        images: Sequence[ImageLike],
        labels: Sequence[str],
        progress: learner.Progress = None,
        seen: Seen = None,
    ) -> dict[str, Any]:
        """Return accuracy (0..1 over all images), images, and per_class (accuracy by class name).

        `seen` is called with each image, its label and its Prediction. Raises DeviceError for what is not an image, and
        for labels that the device does not know.
        """
        return accuracy(self.classes, self.look, self._read, images, labels, progress, seen)

    def look(self, image: ImageLike) -> Prediction:
        """Return what `predict` does, and remember nothing of it: neither what is unknown nor the camera."""
        return self._predict(image, False)

    def look_many(self, images: Iterable[ImageLike]) -> list[Prediction]:
        """Return what `look` does for each of the images; raises DeviceError as it does."""
        return [self.look(take()) for take in self._read(images)]

    @property
    def taught(self) -> frozenset[int]:
        """Which images of an inbox were learned, by their `lesson_key`; it is saved, and for the caller's use."""
        return self._working.taught

    @taught.setter
    def taught(self, keys: frozenset[int]) -> None:
        self._working.taught = keys

    def undo(self) -> None:
        """Bring back exactly what was known before the last lesson or other change; `save` makes it last.

        Of a device opened again, what was saved together is taken back together: all since the save before the last
        lesson. Only one lesson can be taken back. Raises DeviceError when there is none, its save is lost, or the state
        folder is in use.
        """
        self._lessons.undo()

    def as_one_lesson(self) -> AbstractContextManager[None]:
        """Return a context whose lessons and changes `undo` takes back together."""
        return self._lessons.as_one()

    def save(self) -> Path:
        """Write what was learned into the older slot of the state folder and return the file's path.

        Raises DeviceError when the folder cannot be written or is in use; what was saved before is then untouched.
        """
        return self._lessons.save()

    @contextmanager
    def _taking_in(
        self, images: Sequence[ImageLike], labels: Sequence[str], progress: learner.Progress
    ) -> Iterator[tuple[Transaction, Array, Array]]:
        """Read labelled images, lock the folder, and yield features [N, d] as stored and slots [N] to be learned.

        All of what follows in the context happens, or none of it: see `Transaction`.
        """
        with self._lessons.change() as transaction:
            self._working.name(labels)
            slots = self._working.slots_of(labels)  # (N,)
            raw = self.features(images, progress)  # (N, d)
            self._lessons.lock()
            yield transaction, raw, slots
        if not transaction.taken_back:
            self._working.named_by(raw)

    def _predict(self, image: ImageLike, counted: bool) -> Prediction:
        if not self.classes:
            raise DeviceError(f"bundle {self.bundle.path} knows no class yet: teach it some with learn")
        pixels = self.load(image)  # (H, W, 3)
        return predicted(self._backbone, self._working, pixels, self.unknown_rate, counted)

    def _settings(
        self,
        replay: str,
        epochs: int,
        learning_rate: float | None,
        save_every: int = 0,
        consolidate: str | None = None,
    ) -> learner.LearnSettings:
        head = self.bundle.head
        rate = float(head["learning_rate"]) if learning_rate is None else learning_rate
        return learner.LearnSettings(replay, epochs, rate, int(head["batch"]), save_every, consolidate)
