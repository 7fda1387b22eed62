"""A batch that several processes share: each computes a part of its rows, and all have the same weights.

Within `among` these functions speak with the other processes through TensorFlow's collective operations; anywhere else,
and on every other backend, a batch has one part. All processes call them in the same order.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from keras_cbpnet.lazy import tf

__all__ = ["among", "joined", "largest", "mean_share", "part", "total"]

# Dimensions: B rows of the batch, W processes.

GROUP = 2026  # key of the group of all processes; `tf.distribute` counts its own from 1 on
_place: list[tuple[int, int]] = []  # index and number of processes, within `among`
_keys = itertools.count(1)  # of the operations, which find their counterparts by it


@contextlib.contextmanager
def among(index: int, count: int) -> Iterator[None]:
    """Within this context the batch is shared by `count` processes, of which this is number `index`, from 0 on."""
    _place.append((index, count))
    try:
        yield
    finally:
        _place.pop()


def part(rows: Any) -> Any:
    """Return the rows of this process, [B / W, ...], of the whole batch's `rows` [B, ...]."""
    index, count = _where()
    return rows if count == 1 else tf.split(rows, count)[index]


def joined(rows: Any) -> Any:
    """Return the rows of all processes, [B, ...], of this one's `rows` [B / W, ...]."""
    if (count := _where()[1]) == 1:
        return rows
    return tf.raw_ops.CollectiveGatherV2(input=rows, **_group(count))


def largest(value: Any) -> Any:
    """Return the largest over all processes of each entry of `value`, any shape."""
    return _reduced(value, "Max")


def total(values: Sequence[Any]) -> Sequence[Any]:
    """Return the sums over all processes of each of `values`, any shapes."""
    return [_reduced(value, "Add") for value in values]


def mean_share() -> float:
    """Return what a mean over this process's rows counts in the mean over all of them, 1 / W."""
    return 1.0 / _where()[1]


def _reduced(value: Any, operation: str) -> Any:
    if (count := _where()[1]) == 1:
        return value
    group = _group(count)
    return tf.raw_ops.CollectiveReduceV2(input=value, merge_op=operation, final_op="Id", **group)


def _group(count: int) -> dict[str, Any]:
    return {"group_size": count, "group_key": GROUP, "instance_key": next(_keys), "ordering_token": []}


def _where() -> tuple[int, int]:
    return _place[-1] if _place else (0, 1)
