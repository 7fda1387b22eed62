"""What a device knows while it runs: the head, the class statistics, the class names, the random numbers.

Dimensions: n images, d features, C class slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from firmware_host.bundle import Bundle, ClassStatistics, DeviceError
from firmware_host.engines.protocol import Array, Head
from firmware_host.fleet.own import Own
from firmware_host.learning import learner
from firmware_host.learning.camera_state import CameraState
from firmware_host.learning.following import Following
from firmware_host.learning.replay import Replay
from firmware_host.shared.bank import Mixture
from firmware_host.shared.bank.novelty import SAME_CAMERA
from firmware_host.shared.bank.unknowns import Unknowns
from firmware_host.shared.names import distinct_names, known_name
from firmware_host.state import Snapshot
from firmware_host.state.buffer import ReplayBuffer

__all__ = ["WorkingState"]


class WorkingState:
    """Everything that learning changes, in use; `snapshot()` copies it and `restore()` brings a copy back.

    Args:
        bundle: the bundle, for its slots.
        head: the engine that holds the head's tensors.
        start: what to start from; what it lacks of the head is as `head` has it at that moment.
        dequantize: stored features [..., d] to float32.
    """

    def __init__(self, bundle: Bundle, head: Head, start: Snapshot, dequantize: Callable[[Array], Array]) -> None:
        self.bundle = bundle
        self.head = head
        self.plain = dequantize
        self.said: str | None = None  # of the camera, by the last lesson of several images
        self.rng = np.random.default_rng()
        self.unknowns = Unknowns()
        self.follows = True  # the camera, by what is predicted
        self.following = Following()  # neither saved nor rolled back
        self.own: Own | None = None  # what this device was taught, where that is kept apart
        self.restore(start.completed(head.get_state(), bundle.bank()))

    def snapshot(self) -> Snapshot:
        """Return a copy of everything."""
        return Snapshot(
            self.head.get_state(),
            self.statistics.copy(),
            self.classes,
            dict(self.rng.bit_generator.state),
            None if self.buffer is None else self.buffer.copy(),
            None if self.pending is None else (self.pending[0].copy(), self.pending[1].copy()),
            self.rolled_back,
            self.doubted.copy(),
            self.taught,
            None if self.mixture is None else self.mixture.arrays(),
            self.camera.arrays(),
            self.unknowns.copy(),
            self.device,
            None if self.own is None else self.own.arrays(),
            self.board,
        )

    def settled(self) -> Snapshot:
        """Return a copy to be saved: a device that opens it predicts, bit by bit, as this one does from now on."""
        if self.mixture is not None:
            self.mixture.bank.renew()
        return self.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot."""
        self.head.set_state(snapshot.head)
        self.statistics = snapshot.statistics.copy()
        self.classes = snapshot.classes
        self.rng.bit_generator.state = snapshot.generator
        self.buffer = None if snapshot.buffer is None else snapshot.buffer.copy()
        self.pending = None if snapshot.pending is None else (snapshot.pending[0].copy(), snapshot.pending[1].copy())
        self.rolled_back = snapshot.rolled_back
        none = np.zeros(self.bundle.slots, np.int64)
        self.doubted = none if snapshot.doubted is None else snapshot.doubted.copy()  # (C,)
        self.taught, self.board = snapshot.taught, snapshot.board
        own = [slot for slot, name in enumerate(self.classes) if name not in self.bundle.classes]
        self.camera = CameraState.restored(snapshot.camera, self.statistics, own)
        self.unknowns = (snapshot.unknowns or Unknowns()).copy(self.unknowns.last)
        self.device = snapshot.device
        self.own = None if snapshot.fleet is None else Own.from_arrays(snapshot.fleet, since=self.own)
        self.mixture = self.mixture_of(snapshot)

    def mixture_of(self, snapshot: Snapshot) -> Mixture | None:
        """Return the mixture of block and bank that a snapshot of this device gives; None without a bank."""
        if snapshot.bank is None:
            return None
        head = self.bundle.head
        mean, scale = (np.array(head[name], np.float32) for name in ("feature_mean", "feature_scale"))
        arrays = {name: value.copy() for name, value in snapshot.bank.items()}
        # Where the bundle does not ask for drift detection, what is new under a known name is a new look of that class.
        mixture = Mixture(arrays, mean, scale, float(head["bank"]["block_weight"]), rebinds="surprise" in head)
        for slot in self.statistics.seen:  # of a state that was written before the bundle had a bank
            if not mixture.bank.binding[slot]:
                mixture.bank.adopt(int(slot), self.statistics.mean[slot], float(self.statistics.count[slot]))
        mixture.bank.leave_open(self.camera.left_open(self.statistics))
        mixture.bank.novelty.camera = self.camera.novelty.copy()
        return mixture

    def dequantize(self, raw: Array) -> Array:
        """Return what stored features [..., d] stand for, float32, in the terms of the host's camera."""
        value: Array = self.plain(raw) - self.camera.offset
        return value

    def move_camera(self, offset: Array, apart: float) -> None:
        """Take another offset [d] from every feature; what this camera's images put into class means moves along.

        `apart` is what the camera leaves open in the means of the other classes.
        """
        self.unknowns.clear()
        moved = self.camera.share(self.statistics)[:, None] * (offset - self.camera.offset)  # (C, d)
        if self.own is not None:
            self.own.move(offset - self.camera.offset)
        self.camera.offset, self.camera.apart = np.array(offset, np.float32), float(apart)
        state, old = self.head.get_state(), self.statistics
        state["class_mean"] = (state["class_mean"] - moved).astype(np.float32)
        self.head.set_state(state)
        self.statistics = ClassStatistics(old.mean - moved, old.count, old.scatter, old.shrinkage)
        if self.mixture is not None:
            bank = self.mixture.arrays()
            for table in (bank["binding"], bank["trial"]):
                bound = np.flatnonzero(table)
                bank["mean"][table[bound] - 1] -= moved[bound] / np.array(self.bundle.head["feature_scale"])
            self.mixture = self.mixture_of(replace(self.snapshot(), bank=bank))

    def usual_through_camera(self, feature: Array | None) -> None:
        """Let images of known classes, features [n, d] that were not learned, tell how novel this camera makes them.

        None: no more so than the host's.
        """
        self.camera.novelty = SAME_CAMERA.copy()
        if self.mixture is not None:
            novelty = self.mixture.bank.novelty
            if feature is not None:
                self.camera.novelty = novelty.through(self.mixture.signals(self._block(feature), feature))
            novelty.camera = self.camera.novelty.copy()

    def follow(self, feature: Array) -> None:
        """Take in the feature [d] of a predicted image; move the camera where the last ones show an offset."""
        offset = self.following.see(feature, self.camera, self.statistics)
        if offset is not None:
            self.move_camera(offset, self.camera.apart)
            self.usual_through_camera(self.following.features - offset)

    @property
    def trains(self) -> bool:
        """Whether there is a block that is worth training."""
        return self.mixture is None or self.mixture.start > 0

    def judge(self, feature: Array) -> tuple[Array, float]:
        """Return for one feature [d] the probability of each class slot, [C], and its novelty; see `Prediction`."""
        found, novelty = self.judge_all(feature[None])
        return found[0], float(novelty[0])

    def judge_all(self, feature: Array) -> tuple[Array, Array]:
        """Return for features [n, d] the probability of each class slot, [n, C], and each one's novelty, [n]."""
        found = self._block(feature)
        return (found, np.zeros(len(feature))) if self.mixture is None else self.mixture.judge(found, feature)

    def named_by(self, raw: Array) -> None:
        """Forget the groups of unknown images that those of a lesson, as stored [n, d], have given a name."""
        if self.mixture is not None:
            self.unknowns.forget(self.mixture, self.dequantize(raw))

    def observe(self, feature: Array, label: Array, batch: int) -> None:
        """Take each real image once, features [n, d] and slots [n], into class means, statistics and the bank."""
        self.camera.took(label)
        if self.own is not None:
            for slot in np.unique(label):
                self.own.learn(self.classes[slot], feature[label == slot])
        if self.mixture is not None:
            for start in range(0, len(label), batch):
                rows, slots = feature[start : start + batch], label[start : start + batch]
                self.mixture.learn(self._block(rows), rows, slots)
        learner.observe(self.head, self.statistics, feature, label, batch)
        if self.mixture is not None:
            self.mixture.bank.leave_open(self.camera.left_open(self.statistics))

    def _block(self, feature: Array) -> Array:
        """Return the block's probabilities [n, C] for features [n, d]; zero where they do not count."""
        if not self.trains:
            return np.zeros((len(feature), self.bundle.slots), np.float32)
        return self.head.infer(feature)[1]

    def name(self, names: Sequence[str]) -> None:
        """Give every new name the next spare slot; raises DeviceError as `named`."""
        self.classes = self.named(names)

    def named(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the classes with every new name after them.

        Raises:
            DeviceError: one is not a valid name, can hardly be told from a known one, or no slot is left.
        """
        named = dict.fromkeys(known_name(name, self.classes) for name in names)
        unknown = [name for name in named if name not in self.classes]
        if not unknown:
            return self.classes
        classes = distinct_names(unknown, known=self.classes)
        if len(classes) > self.bundle.slots:
            new = len(classes) - len(self.classes)
            raise DeviceError(
                f"{new} new class{'es' * (new > 1)} ({', '.join(classes[len(self.classes) :])}) for "
                f"{self.bundle.slots - len(self.classes)} spare of {self.bundle.slots} slots: "
                f"convert the run again with --slots {len(classes)} or more (python tflite/convert.py RUN --recipe "
                f"{self.bundle.recipe} --slots {len(classes)} --output NEW) and take along what was learned "
                "(`state NEW import FILE`)"
            )
        return classes

    def slots_of(self, labels: Sequence[str]) -> Array:
        """Return the slot of every name, int32 [n]."""
        return np.array([self.classes.index(known_name(name, self.classes)) for name in labels], np.int32)

    def unmask(self, slots: Array) -> None:
        """Let classes compete in predictions."""
        state = self.head.get_state()
        mask = state["class_mask"].copy()
        mask[slots] = 1
        if not np.array_equal(mask, state["class_mask"]):
            self.head.set_state({**state, "class_mask": mask})

    def keep(self, raw: Array, slots: Array, capacity: int) -> None:
        """Offer images to a buffer of `capacity`, feature [n, d] as stored and slot [n]; 0: leave it alone."""
        if capacity == 0:
            return
        if self.buffer is None:
            self.buffer = ReplayBuffer.empty(capacity, self.bundle.slots, raw.shape[1], raw.dtype)
        elif self.buffer.capacity != capacity:
            self.buffer = self.buffer.resized(capacity, self.rng)
        for row, slot in zip(raw, slots):
            self.buffer.add(row, int(slot), self.rng)

    def replay(self, buffered: bool) -> Replay:
        """Return what draws rows of the classes seen: from the statistics or, if kept and wanted, from the buffer."""
        return Replay(self.statistics, self.buffer if buffered else None, self.dequantize)
