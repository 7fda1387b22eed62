"""Block and bank together: two opinions on every image, weighed by what they got right so far.

Every labelled image is judged by both before it is learned (prequential losses, Dawid 1984), and the weights follow
(exponential weights with forgetting, Herbster and Warmuth 1998). Dimensions: N images, C class slots, d features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import numpy as np

from firmware_host.shared.bank.bank import Bank
from firmware_host.shared.bank.novelty import signals
from firmware_host.shared.bank.temperature import Temperature

__all__ = ["Mixture"]

Array = np.ndarray[Any, Any]
Views = Optional["tuple[Array, Array]"]
FORGET = 0.98  # a loss counts for so much less with every label: about the last fifty count
RATE = 0.2  # of the weights
START = 0.05  # weight of the block where nothing has been judged yet
FEW = 3.0  # images from which a class tells how novel its next ones are
PARTS, MANY = 5, 2000  # parts of images that are held out, and the images from which one part is enough
BESIDE_VIEWS, TWICE = 4.0, 144.0  # views that an image counts for beside its own, and images of a class at which twice
WORST = 1e-3  # probability below which a loss counts no more


class Watched(NamedTuple):
    """What images of known classes gave before they were learned."""

    signals: Array  # [N, 2], see `Novelty`
    probabilities: Array  # [N, C], see `Temperature`
    label: Array  # [N]


class Mixture:
    """A bank, and how it and a block are weighed.

    Args:
        arrays: the tensors of `BANK`; they are changed in place.
        mean, scale: [d] each, of the features; see `Bank`.
        start: weight of the block where nothing has been judged yet; 0: the bank judges alone, always.
        rebinds: see `Bank`.
    """

    def __init__(
        self, arrays: Mapping[str, Array], mean: Array, scale: Array, start: float = START, rebinds: bool = True
    ) -> None:
        self._arrays, self._mean, self._scale = dict(arrays), mean, scale
        self.bank = Bank(arrays, mean, scale, rebinds)
        self.temperature = Temperature(arrays)
        self.losses = arrays["losses"]
        self.start = start

    def arrays(self) -> dict[str, Array]:
        """Return copies of all tensors by name."""
        return {name: value.copy() for name, value in self._arrays.items()}

    def copy(self) -> Mixture:
        """Return one that knows the same and goes its own way, in which no label changes its meaning."""
        copy = Mixture(self.arrays(), self._mean, self._scale, self.start, False)
        copy.bank.novelty.camera = self.bank.novelty.camera.copy()
        return copy

    @property
    def weight(self) -> float:
        """The block's share, 0..1."""
        better = float(np.clip(RATE * (self.losses[1] - self.losses[0]), -50.0, 50.0))
        odds = self.start / (1.0 - self.start) * float(np.exp(better))
        return odds / (1.0 + odds)

    def probabilities(self, block: Array, feature: Array) -> Array:
        """Return probabilities [N, C] from those of the block [N, C] and features [N, d]; zero for unknown classes."""
        return self._calibrated(self._mixed(block, self._of_bank(feature)[0]))

    def judge(self, block: Array, feature: Array) -> tuple[Array, Array]:
        """Return `probabilities`, and for each image the share of known images that are less novel, [N], 0 to 1."""
        bank, density = self._of_bank(feature)
        mixed = self._mixed(block, bank)
        return self._calibrated(mixed), self.bank.novelty(signals(density, mixed))

    def signals(self, block: Array, feature: Array) -> Array:
        """Return what `Novelty` judges images by, [N, 2]; arguments as of `probabilities`."""
        bank, density = self._of_bank(feature)
        return signals(density, self._mixed(block, bank))

    def white(self, feature: Array) -> Array:
        """Return features [N, d] where the covariance that all classes share is the identity."""
        return np.asarray(((feature - self._mean) / self._scale) @ self.bank.metric().whitener)

    def learn(self, block: Array, feature: Array, label: Array) -> None:
        """Take labelled images in, features [N, d] and labels [N], which the block gave the probabilities [N, C]."""
        if len(self.bank.labels):
            self.take(self.watch(block, feature, label))
        self.bank.learn(feature, label)

    def learn_apart(
        self, block: Array, feature: Array, label: Array, rng: np.random.Generator, views: Views = None
    ) -> None:
        """Take many images of classes that are new in, arguments as in `learn`: judged by what the others teach.

        A part of the images is held out and judged by a copy that has learned the rest; of few images, every part.

        Args:
            block: its probabilities for the images, [N, C].
            feature: of the images, [N, d].
            label: of the images, [N].
            rng: of the parts.
            views: features [V, d] of other views of the images, and the row of each one's image, [V].
        """
        part = rng.permutation(np.arange(len(label)) % PARTS)
        more, row = (feature[:0], np.zeros(0, np.int64)) if views is None else views

        def teach(bank: Bank, kept: Array) -> None:
            for c in np.unique(label[kept]):
                mine, others = kept & (label == c), kept[row] & (label[row] == c)
                # Views make a mean no surer: together with them, n images count as n.
                weight = BESIDE_VIEWS * (1.0 + mine.sum() / TWICE)
                share = mine.sum() / (weight * mine.sum() + others.sum())
                bank.learn_classes(feature[mine], label[mine], weight * share)
                bank.learn_classes(more[others], label[row][others], share)

        found = []
        for held in range(PARTS if len(label) < MANY else 1):
            other = self.copy()
            teach(other.bank, part != held)
            found.append(other.watch(block[part == held], feature[part == held], label[part == held]))
        teach(self.bank, np.ones(len(label), bool))
        self.take(Watched(*(np.concatenate(each) for each in zip(*found))))

    def watch(self, block: Array, feature: Array, label: Array) -> Watched:
        """See how right block and bank are, arguments as in `learn`; return what images of known classes gave."""
        bank, density = self._of_bank(feature)
        if self.start:
            known = np.isin(label, self.bank.labels)
            for one, other, slot in zip(block[known], bank[known], label[known]):
                self.losses *= FORGET
                self.losses -= np.log(np.maximum([one[slot], other[slot]], WORST)).astype(np.float32)
        mixed, settled = self._mixed(block, bank), self.bank.settled(label, FEW)
        return Watched(signals(density, mixed)[settled], mixed[settled], label[settled])

    def take(self, found: Watched) -> None:
        """Take in what images of known classes gave that were not learned when they were judged."""
        total = float(self.bank.sums.total)
        before = float(self.bank.novelty.usual[5])
        self.temperature.take(found.probabilities, found.label, min(1.0, before / max(total, 1.0)))
        self.bank.novelty.take(found.signals, total)

    def _of_bank(self, feature: Array) -> tuple[Array, Array]:
        z, density = self.bank.judge(feature)
        known = z > -1e8
        odds = np.where(known, np.exp(z - z.max(axis=1, keepdims=True)), 0.0)
        return np.asarray(odds / np.maximum(odds.sum(axis=1, keepdims=True), 1e-30), np.float32), density

    def _calibrated(self, mixed: Array) -> Array:
        return self.temperature(mixed) if len(self.bank.labels) else mixed

    def _mixed(self, block: Array, bank: Array) -> Array:
        if not len(self.bank.labels):
            return block
        share = self.weight
        return np.asarray(share * block + (1.0 - share) * bank, np.float32)
