"""Block and bank together: two opinions on every image, weighed by what they got right so far.

Every labelled image is judged by both before it is learned (prequential losses, Dawid 1984), and the weights follow
(exponential weights with forgetting, Herbster and Warmuth 1998). Dimensions: N images, C class slots, d features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_host.shared.bank.bank import Bank

__all__ = ["Mixture"]

Array = np.ndarray[Any, Any]
FORGET = 0.98  # a loss counts for so much less with every label: about the last fifty count
RATE = 0.2  # of the weights
START = 0.05  # weight of the block where nothing has been judged yet
WORST = 1e-3  # probability below which a loss counts no more


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
        self._arrays = dict(arrays)
        self.bank = Bank(arrays, mean, scale, rebinds)
        self.losses = arrays["losses"]
        self.start = start

    def arrays(self) -> dict[str, Array]:
        """Return copies of all tensors by name."""
        return {name: value.copy() for name, value in self._arrays.items()}

    @property
    def weight(self) -> float:
        """The block's share, 0..1."""
        better = float(np.clip(RATE * (self.losses[1] - self.losses[0]), -50.0, 50.0))
        odds = self.start / (1.0 - self.start) * float(np.exp(better))
        return odds / (1.0 + odds)

    def probabilities(self, block: Array, feature: Array) -> Array:
        """Return probabilities [N, C] from those of the block [N, C] and features [N, d]; zero for unknown classes."""
        return self._mixed(block, self._of_bank(feature))

    def learn(self, block: Array, feature: Array, label: Array) -> None:
        """Take labelled images in, features [N, d] and labels [N], which the block gave the probabilities [N, C]."""
        if len(self.bank.labels) and self.start:
            bank = self._of_bank(feature)
            known = np.isin(label, self.bank.labels)
            for one, other, slot in zip(block[known], bank[known], label[known]):
                self.losses *= FORGET
                self.losses -= np.log(np.maximum([one[slot], other[slot]], WORST)).astype(np.float32)
        self.bank.learn(feature, label)

    def _of_bank(self, feature: Array) -> Array:
        z = self.bank.logits(feature)
        known = z > -1e8
        odds = np.where(known, np.exp(z - z.max(axis=1, keepdims=True)), 0.0)
        return np.asarray(odds / np.maximum(odds.sum(axis=1, keepdims=True), 1e-30), np.float32)

    def _mixed(self, block: Array, bank: Array) -> Array:
        if not len(self.bank.labels):
            return block
        share = self.weight
        return np.asarray(share * block + (1.0 - share) * bank, np.float32)
