"""Replay: rows of the classes seen, drawn batch by batch and computed a few batches at once.

What chance decides is drawn in the order of the batches, so that nothing depends on how many are computed together.

Dimensions: S batches, R rows of each, d features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

import numpy as np

from firmware_host.bundle import ClassStatistics
from firmware_host.engines.protocol import Array
from firmware_host.shared.statistics import evenly
from firmware_host.state.buffer import ReplayBuffer

__all__ = ["Replay"]

TOGETHER = 1 << 15  # numbers that are computed at once: a quarter of a MiB, and a product of well over a hundred rows


class Replay:
    """Rows from class statistics or, where wanted and kept, from a buffer.

    Args:
        statistics: of the classes seen; they must not change between a draw and `take`.
        buffer: rows of a class come from here where it has some; None: they never do.
        dequantize: what the buffer keeps, [d], to a feature; needed where there is a buffer.

    Raises:
        ValueError: no class has been seen.
    """

    def __init__(
        self,
        statistics: ClassStatistics,
        buffer: Optional[ReplayBuffer] = None,
        dequantize: Callable[[Array], Array] = np.asarray,
    ) -> None:
        if not len(statistics.seen):
            raise ValueError("class statistics hold no image yet: update them before sampling")
        self._statistics, self._buffer, self._dequantize = statistics, buffer, dequantize
        self._seen = statistics.seen
        self._clear()

    def together(self, rows: int) -> int:
        """Return how many batches of so many rows are worth drawing before `take`."""
        return max(1, TOGETHER // max(rows * self._statistics.mean.shape[1], 1))

    def draw(self, rng: np.random.Generator, rows: int) -> None:
        """Draw a batch of all classes seen, each equally often (up to one row)."""
        self.draw_of(rng, evenly(rng, self._seen, rows))

    def draw_of(self, rng: np.random.Generator, label: Array) -> None:
        """Draw a batch of the slots `label` [R]."""
        self._label.append(label)
        self._noise.append(rng.standard_normal((len(label), self._statistics.mean.shape[1])))
        if self._buffer is not None:
            kept = ((row, self._buffer.draw(int(slot), rng)) for row, slot in enumerate(label))
            batch = len(self._label) - 1
            self._kept += [(batch, row, raw) for row, raw in kept if raw is not None]

    def take(self, expected: bool = False) -> tuple[Array, Array]:
        """Return what was drawn since the last call: features [S, R, d] float32 and slots [S, R].

        Args:
            expected: whether as the next images of their classes, see `ClassStatistics.expect`.
        """
        label, noise = np.concatenate(self._label), np.concatenate(self._noise)
        compute = self._statistics.expected if expected else self._statistics.around
        shape = (len(self._label), len(self._label[0]))
        feature = compute(label, noise).reshape(*shape, noise.shape[1])
        for batch, row, raw in self._kept:
            feature[batch, row] = self._dequantize(raw)
        self._clear()
        return feature, label.reshape(shape)

    def _clear(self) -> None:
        self._label: list[Array] = []
        self._noise: list[Array] = []
        self._kept: list[tuple[int, int, Array]] = []  # batch, row, and what the buffer has for it
