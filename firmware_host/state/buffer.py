"""A replay buffer of real features: a class-balanced reservoir that keeps them as the backbone gives them.

Chrysakis and Moens, Online Continual Learning from Imbalanced Data (2020).
Dimensions: n images kept, d features, C slots.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array

__all__ = ["ReplayBuffer"]


class ReplayBuffer:
    """At most `capacity` features and their slots, of every class about equally many, each image equally likely.

    Args:
        capacity: how many features are kept, at least 1.
        feature: [n, d], int8 or uint8 as stored by the backbone (float32 where it gives that).
        label: [n], the slot of each.
        seen: [C], how many images of each class were offered so far.

    Raises:
        DeviceError: these do not fit.
    """

    def __init__(self, capacity: int, feature: Array, label: Array, seen: Array) -> None:
        if capacity < 1:
            raise DeviceError(f"replay buffer of {capacity} images: use 1 or more")
        self.capacity = capacity
        self.feature = np.array(feature)  # (n, d)
        self.label = np.array(label, np.int32)  # (n,)
        self.seen = np.array(seen, np.int64)  # (C,)
        if self.feature.ndim != 2 or self.label.shape != self.feature.shape[:1] or self.seen.ndim != 1:
            raise DeviceError(
                f"replay buffer: feature {list(self.feature.shape)} and label {list(self.label.shape)} do not fit: "
                "give [n, d] and [n]"
            )

    @classmethod
    def empty(cls, capacity: int, slots: int, size: int, dtype: np.dtype) -> ReplayBuffer:  # type: ignore[type-arg]
        """Return a buffer of no image yet, for features of `size` values of `dtype`."""
        return cls(capacity, np.zeros((0, size), dtype), np.zeros(0, np.int32), np.zeros(slots, np.int64))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> ReplayBuffer:
        """Return the buffer whose `arrays()` these are."""
        return cls(int(arrays["capacity"]), arrays["feature"], arrays["label"], arrays["seen"])

    def arrays(self) -> dict[str, Array]:
        """Return copies of everything by name."""
        capacity = np.array(self.capacity)
        return {
            "capacity": capacity,
            "feature": self.feature.copy(),
            "label": self.label.copy(),
            "seen": self.seen.copy(),
        }

    def copy(self) -> ReplayBuffer:
        """Return an independent copy."""
        return ReplayBuffer.from_arrays(self.arrays())

    def resized(self, capacity: int, rng: np.random.Generator) -> ReplayBuffer:
        """Return a copy that keeps at most `capacity` images, the fullest classes giving way."""
        other = self.copy()
        other.capacity = ReplayBuffer.empty(capacity, 1, 1, np.dtype(np.int8)).capacity
        while len(other.label) > capacity:
            other._drop(other._random_of(other._fullest(), rng))
        return other

    def add(self, feature: Array, slot: int, rng: np.random.Generator) -> None:
        """Offer one image, feature [d] as the backbone stores it, of class `slot`."""
        self.seen[slot] += 1
        if len(self.label) < self.capacity:
            self.feature = np.concatenate([self.feature, feature[None]])
            self.label = np.append(self.label, np.int32(slot))
            return
        kept = int(np.count_nonzero(self.label == slot))
        fullest = self._fullest()
        if kept < np.count_nonzero(self.label == fullest):  # room is made for a class that has less than another
            place = self._random_of(fullest, rng)
        elif rng.random() < kept / self.seen[slot]:
            place = self._random_of(slot, rng)
        else:
            return
        self.feature[place], self.label[place] = feature, slot

    def draw(self, slot: int, rng: np.random.Generator) -> Array | None:
        """Return the feature [d] of one image of class `slot`, as stored; None where none is kept."""
        return self.feature[self._random_of(slot, rng)] if slot in self.label else None

    def in_order(self, new: Mapping[int, int]) -> ReplayBuffer:
        """Return a copy whose classes have other slots, `new` by the old ones; images of others are dropped."""
        keep = [row for row, slot in enumerate(self.label) if int(slot) in new]
        label = np.array([new[int(self.label[row])] for row in keep], np.int32)
        seen = np.zeros_like(self.seen)
        for old, slot in new.items():
            seen[slot] = self.seen[old]
        return ReplayBuffer(self.capacity, self.feature[keep], label, seen)

    def _fullest(self) -> int:
        return int(np.argmax(np.bincount(self.label)))

    def _random_of(self, slot: int, rng: np.random.Generator) -> int:
        return int(rng.choice(np.flatnonzero(self.label == slot)))

    def _drop(self, place: int) -> None:
        self.feature, self.label = np.delete(self.feature, place, axis=0), np.delete(self.label, place)
