"""What a device knows while it runs: the head, the class statistics, the class names, the random numbers.

Dimensions: n images, d features, C class slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from firmware_host.bundle import Bundle, ClassStatistics, DeviceError
from firmware_host.engines.protocol import Array, Head
from firmware_host.learning import learner
from firmware_host.learning.camera_state import CameraState, lesson_through
from firmware_host.learning.following import Following
from firmware_host.learning.replay import Replay
from firmware_host.shared.bank import Mixture, bank_axes
from firmware_host.shared.bank.unknowns import Unknowns
from firmware_host.shared.names import distinct_names, known_name, nearest
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
        self.taught = snapshot.taught
        own = [slot for slot, name in enumerate(self.classes) if name not in self.bundle.classes]
        self.camera = CameraState.restored(snapshot.camera, self.statistics, own)
        self.unknowns = (snapshot.unknowns or Unknowns()).copy(self.unknowns.last)
        self.mixture = self._mixture(snapshot)

    def _mixture(self, snapshot: Snapshot) -> Mixture | None:
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
            self.mixture = self._mixture(replace(self.snapshot(), bank=bank))

    def follow(self, feature: Array) -> None:
        """Take in the feature [d] of a predicted image; move the camera where the last ones show an offset."""
        offset = self.following.see(feature, self.camera, self.statistics)
        if offset is not None:
            self.move_camera(offset, self.camera.apart)

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
        if len(label) > 1:
            self.said = lesson_through(self.camera, self.statistics, feature, label)
        self.camera.took(label)
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

    def forget(self, name: str) -> None:
        """Take a class out of everything and give its slot back; the classes after it move down by one.

        What it added to the covariance shared by all classes stays.

        Raises:
            DeviceError: it is not known.
        """
        slot = self._slot(name)
        self.unknowns.clear()
        state = self.head.get_state()
        for tensor, axis in self.bundle.class_axes.items():
            state[tensor] = _without(state[tensor], slot, axis)
        self.head.set_state(state)
        old = self.statistics.arrays()
        mean, count = _without(old["mean"], slot, 0), _without(old["count"], slot, 0)
        self.statistics = ClassStatistics(mean, count, old["scatter"], self.statistics.shrinkage)
        self.classes = (*self.classes[:slot], *self.classes[slot + 1 :])
        if self.mixture is not None:
            self.mixture.bank.forget(slot)
            bank = self.mixture.arrays()
            bank.update({name: _without(bank[name], slot, axis) for name, axis in bank_axes("C").items()})
            self.mixture = self._mixture(replace(self.snapshot(), bank=bank))
        self.doubted, self.camera.images = (_without(each, slot, 0) for each in (self.doubted, self.camera.images))
        if self.buffer is not None:
            self.buffer.forget(slot)
        if self.pending is not None:
            feature, label = self.pending
            keep = label != slot
            self.pending = feature[keep], (label - (label > slot))[keep].astype(np.int32)

    def rename(self, old: str, new: str) -> None:
        """Give a class another name; raises DeviceError when it is not known, or the new one is invalid or taken."""
        slot = self._slot(old)
        others = (*self.classes[:slot], *self.classes[slot + 1 :])
        name = known_name(new, others)
        if name in others:
            raise DeviceError(f"class {name!r} is known already: choose another name")
        name = distinct_names([name], known=others)[-1]
        self.classes = (*self.classes[:slot], name, *self.classes[slot + 1 :])

    def _slot(self, name: str) -> int:
        name = known_name(name, self.classes)
        if name not in self.classes:
            near = nearest(name, self.classes)
            raise DeviceError(
                f"class {name!r} is not known: the device knows {', '.join(self.classes) or 'none'}"
                + (f"; do you mean {near!r}?" if near else "")
            )
        return self.classes.index(name)


def _without(values: Array, slot: int, axis: int) -> Array:
    """Return `values` with one slot taken out and an empty one, zero, at the end."""
    kept = np.delete(values, slot, axis)
    empty = np.zeros_like(np.take(values, [slot], axis))
    return np.concatenate([kept, empty], axis)
