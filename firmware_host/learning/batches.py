"""The batches of a training: real rows first, then replayed ones, empty rows at the end.

Dimensions: N images, d features, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

import numpy as np

from firmware_host.engines.protocol import Array
from firmware_host.learning.replay import Replay
from firmware_host.shared.fresh import fresh_bound

__all__ = ["Drawn", "Rows", "drawn", "fresh_weights"]


class Rows:
    """The two arrays of a batch, filled again for every batch.

    Args:
        batch: B.
        d: features of a row.
    """

    def __init__(self, batch: int, d: int) -> None:
        self._feature = np.zeros((batch, d), np.float32)
        self._label = np.full(batch, -1, np.int32)

    def fill(self, *parts: tuple[Array, Array]) -> tuple[Array, Array]:
        """Return feature [B, d] float32 and label [B] int32, -1 in empty rows, until the next call.

        Args:
            parts: features [n, d] and slots [n] each, one after the other.
        """
        end = 0
        for feature, label in parts:
            start, end = end, end + len(label)
            self._feature[start:end], self._label[start:end] = feature, label
        if end < len(self._label):
            self._feature[end:], self._label[end:] = 0.0, -1
        return self._feature, self._label


class Drawn(NamedTuple):
    """What chance decides about a training step.

    Attributes:
        epoch: number of the pass over the images, from 0, where this is the first step of it; else None.
        rows: [n], the images.
        replayed: features [R, d] and slots [R] of replayed rows; none without replay.
        fresh: [d], incoming weights of a unit that may be reset.
    """

    epoch: Optional[int]
    rows: Array
    replayed: tuple[tuple[Array, Array], ...]
    fresh: Array


def drawn(
    images: int,
    d: int,
    rows: int,
    epochs: int,
    replay: Replay | None,
    replayed: int,
    chunk: int,
    rng: np.random.Generator,
) -> Iterator[Drawn]:
    """Yield what chance decides about each step of some epochs of shuffled batches, in the order of the steps.

    A few steps are drawn ahead, never beyond a chunk's end: there, the random numbers are where they are after as many
    steps that were drawn one by one.

    Args:
        images: N.
        d: features.
        rows: images of a batch.
        epochs: passes over the images.
        replay: gives replayed rows; None: there are none.
        replayed: how many of them a batch has.
        chunk: steps after which the random numbers may be saved.
        rng: of all of it.
    """
    each = -(-images // rows)  # steps of an epoch
    total = epochs * each
    together = chunk if replay is None else min(chunk, replay.together(replayed))
    order, start = np.arange(0), 0
    while start < total:
        end = min(start + together, start - start % chunk + chunk, total)
        taken, fresh = [], []
        for step in range(start, end):
            if step % each == 0:
                order = rng.permutation(images)
            place = step % each * rows
            taken.append(order[place : place + rows])
            if replay is not None:
                replay.draw(rng, replayed)
            fresh.append(fresh_weights(d, rng))
        parts: list[tuple[tuple[Array, Array], ...]] = [()] * len(taken)
        if replay is not None:
            parts = [((feature, label),) for feature, label in zip(*replay.take())]
        for step, rows_of, part, weights in zip(range(start, end), taken, parts, fresh):
            yield Drawn(step // each if step % each == 0 else None, rows_of, part, weights)
        start = end


def fresh_weights(d: int, rng: np.random.Generator) -> Array:
    """Draw the incoming weights [d] of a unit that may be reset, from the distribution that w1 starts from."""
    limit = fresh_bound(d)
    return rng.uniform(-limit, limit, d).astype(np.float32)
