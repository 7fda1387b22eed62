"""A device: a bundle, what it has learned since, and the runtime that computes both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from firmware_host import learner
from firmware_host.bundle import Bundle, BundleError, ClassStatistics, DeviceError, read_bundle
from firmware_host.images import ImageLike, load_image
from firmware_host.protocol import Array, Head
from firmware_host.runtime import Backbone, find_runtime, open_backbone, open_head
from firmware_host.state import LearnedState, default_folder, read_state, write_state

__all__ = ["DEFAULT_EPOCHS", "Device", "Prediction"]

DEFAULT_EPOCHS = 20


class Prediction(NamedTuple):
    """The class a device sees, its probability among the classes known, and how long that took."""

    label: str
    probability: float
    latency_ms: float


class Device:
    """Predicts, learns, and keeps what it learned; make one with `Device.open`.

    Nothing is written before `save()`; the bundle itself never changes. `max_memory_mb` limits what reading an image
    file may take the whole process to, in MiB; None leaves it to Pillow's own limit on pixels.
    """

    def __init__(
        self, bundle: Bundle, backbone: Backbone, head: Head, runtime: str, folder: Path, learned: LearnedState
    ) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self.state_folder = folder
        self.max_memory_mb: Optional[float] = None
        self._backbone = backbone
        self._head = head
        self._learned = learned
        self._rng = np.random.default_rng()
        self._restore(learned)

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        state: str | Path | None = None,
        runtime: str = "auto",
        threads: int = 1,
        seed: int | None = None,
    ) -> Device:
        """Open a bundle and what was learned with it.

        Args:
            bundle: the folder that tflite/convert.py wrote.
            state: the folder of the learned state; None: beside the bundle, `BUNDLE.state`. It need not exist yet.
            runtime: `auto`, `ai_edge_litert`, `tflite_runtime`, or `numpy` (head in NumPy, backbone as in `auto`).
            threads: threads of the interpreter.
            seed: of the random numbers used in learning; None: go on from the saved state (0 where there is none).

        Raises BundleError for a damaged bundle, DeviceError for a state that is damaged or of another bundle and for
        a runtime that is not there.
        """
        opened = read_bundle(bundle)
        folder = Path(state) if state is not None else default_folder(opened.path)
        learned = read_state(folder, opened)
        chosen = find_runtime(runtime)
        backbone, head = open_backbone(opened, chosen, threads), open_head(opened, chosen, threads)
        if learned is None:
            learned = _start_state(opened, head)
        if seed is not None:
            if seed < 0:
                raise DeviceError(f"seed is {seed}: use 0 or more")
            learned = replace(learned, generator=_generator_state(seed))
        return cls(opened, backbone, head, chosen.name, folder, learned)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes known, in slot order."""
        return self._classes

    def predict(self, image: ImageLike) -> Prediction:
        """Return the Prediction for one image (path, or uint8 RGB [h, w, 3] of any size).

        The latency is that of backbone and head, without reading the file. Raises DeviceError when it is no image or
        nothing has been learned yet.
        """
        if not self._classes:
            raise DeviceError(f"bundle {self.bundle.path} knows no class yet: teach it some with learn")
        pixels = load_image(image, self.bundle.image_size, self.max_memory_mb)  # (H, W, 3)
        started = time.perf_counter()
        feature = self._backbone(pixels).value  # (d,)
        _, probabilities = self._head.infer(feature[None])  # (1, C)
        latency_ms = (time.perf_counter() - started) * 1e3
        slot = int(np.argmax(probabilities[0, : len(self._classes)]))
        return Prediction(self._classes[slot], float(probabilities[0, slot]), latency_ms)

    def learn(
        self,
        images: Sequence[ImageLike],
        labels: Sequence[str],
        replay: str = "statistics",
        epochs: int = DEFAULT_EPOCHS,
        learning_rate: float | None = None,
        progress: learner.Progress = None,
    ) -> dict[str, Any]:
        """Learn images with their class names; a new name takes the next spare slot.

        Args:
            images: paths, or uint8 RGB arrays [h, w, 3].
            labels: a class name per image.
            replay: `statistics` (half of each batch drawn from the statistics of every class seen) or `none`.
            epochs: passes over the images.
            learning_rate: Adam's step size; None: the bundle's.
            progress: called with (what, done, total) as it goes.

        Returns steps, images, replaced (units reborn) and loss (mean of the last epoch). Either all of it happens or,
        on an error or an interrupt, none of it; nothing is on disk before `save()`. Raises DeviceError for bad input.
        """
        head = self.bundle.head
        rate = float(head["learning_rate"]) if learning_rate is None else learning_rate
        settings = learner.LearnSettings(replay, epochs, rate, int(head["batch"]))
        _check_lengths(images, labels)
        classes = self._with_classes(labels)
        label = np.array([classes.index(name) for name in labels], np.int32)  # (N,)
        feature = self._features(images, progress)  # (N, d)
        before = self._snapshot()
        try:
            self._classes = classes
            self._unmask(np.unique(label))
            learner.observe(self._head, self._statistics, feature, label, settings.batch)
            result = learner.train(self._head, self._statistics, feature, label, settings, self._rng, progress)
            if not all(np.isfinite(tensor).all() for tensor in self._head.get_state().values()):
                raise DeviceError(f"learning diverged in step {result.steps}: use a lower learning rate than {rate}")
        except BaseException:
            self._restore(before)
            raise
        return {"steps": result.steps, "images": len(label), "replaced": result.replaced, "loss": result.loss}

    def evaluate(
        self, images: Sequence[ImageLike], labels: Sequence[str], progress: learner.Progress = None
    ) -> dict[str, Any]:
        """Return accuracy (0..1 over all images), images, and per_class (accuracy by class name).

        Raises DeviceError for an image that is none, and for labels that the device does not know.
        """
        _check_lengths(images, labels)
        unknown = sorted(set(labels) - set(self._classes))
        if unknown:
            raise DeviceError(
                f"unknown label {', '.join(repr(name) for name in unknown)}: the device knows "
                f"{', '.join(self._classes) or 'none'}; teach it with learn, or leave these images out"
            )
        hits: dict[str, list[bool]] = {name: [] for name in self._classes}
        for done, (image, name) in enumerate(zip(images, labels), 1):
            hits[name].append(self.predict(image).label == name)
            if progress:
                progress("evaluating", done, len(labels))
        per_class = {name: sum(right) / len(right) for name, right in hits.items() if right}
        return {"accuracy": sum(map(sum, hits.values())) / len(labels), "images": len(labels), "per_class": per_class}

    def add_class(self, name: str) -> int:
        """Give `name` the next spare slot and return it; it can be predicted once images of it were learned.

        Raises DeviceError when the name is taken or no slot is left.
        """
        if name in self._classes:
            raise DeviceError(f"class {name!r} is known already: choose another name")
        self._classes = self._with_classes([name])
        return len(self._classes) - 1

    def save(self) -> Path:
        """Write what was learned into the state folder, atomically, and return the file's path.

        Raises DeviceError when the folder cannot be written; an older state is then untouched.
        """
        return write_state(self.state_folder, self.bundle, self._snapshot())

    def _features(self, images: Sequence[ImageLike], progress: learner.Progress) -> Array:
        feature = np.empty((len(images), self.bundle.feature_size), np.float32)  # (N, d)
        for index, image in enumerate(images):
            feature[index] = self._backbone(load_image(image, self.bundle.image_size, self.max_memory_mb)).value
            if progress:
                progress("reading", index + 1, len(images))
        return feature

    def _with_classes(self, names: Sequence[str]) -> tuple[str, ...]:
        classes = tuple(dict.fromkeys((*self._classes, *names)))
        for name in classes[len(self._classes) :]:
            if not isinstance(name, str) or not name or name.splitlines() != [name]:
                raise DeviceError(f"class name {name!r} must be one line of text: rename it")
        if len(classes) > self.bundle.slots:
            new = len(classes) - len(self._classes)
            raise DeviceError(
                f"{new} new class{'es' * (new > 1)} ({', '.join(classes[len(self._classes) :])}) for "
                f"{self.bundle.slots - len(self._classes)} spare of {self.bundle.slots} slots: "
                f"convert the run again with --slots {len(classes)} or more"
            )
        return classes

    def _unmask(self, slots: Array) -> None:
        state = self._head.get_state()
        if not np.all(state["class_mask"][slots] == 1):
            state["class_mask"][slots] = 1
            self._head.set_state(state)

    def _snapshot(self) -> LearnedState:
        generator = dict(self._rng.bit_generator.state)
        return LearnedState(self._head.get_state(), self._statistics.copy(), self._classes, generator)

    def _restore(self, learned: LearnedState) -> None:
        self._head.set_state(learned.head)
        self._statistics = learned.statistics.copy()
        self._classes = learned.classes
        self._rng.bit_generator.state = learned.generator


def _start_state(bundle: Bundle, head: Head) -> LearnedState:
    """Return what the bundle itself knows, with the random numbers of seed 0."""
    state = head.get_state()
    statistics = ClassStatistics(state["class_mean"], state["class_count"], _start_scatter(bundle))
    return LearnedState(state, statistics, bundle.classes, _generator_state(0))


def _start_scatter(bundle: Bundle) -> Array:
    """Return the scatter matrix [d, d] that replay starts with; zero where the bundle has no statistics."""
    d = bundle.feature_size
    if "statistics.npz" not in bundle.files:
        return np.zeros((d, d))
    arrays = bundle.arrays("statistics.npz")
    if "scatter" not in arrays or arrays["scatter"].shape != (d, d):
        raise BundleError(f"{bundle.file('statistics.npz')} has no scatter of shape [{d}, {d}]: convert the run again")
    return arrays["scatter"]


def _generator_state(seed: int) -> dict[str, Any]:
    return dict(np.random.default_rng(seed).bit_generator.state)


def _check_lengths(images: Sequence[ImageLike], labels: Sequence[str]) -> None:
    if len(images) != len(labels):
        raise DeviceError(f"{len(images)} images and {len(labels)} labels: give one label per image")
    if len(labels) == 0:
        raise DeviceError("no images: give at least one")
