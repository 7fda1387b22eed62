"""Turns of processes, so that other load on the machine meets all alike; what counts is each turn's ratio."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psutil

from benchmarks.common.worker import Worker

__all__ = ["Spread", "alternate", "busy_cores", "ratio", "spread"]

LOOK = 2.0  # seconds


class Spread(NamedTuple):
    """A measured number: the median of the turns, and their quartiles."""

    value: float
    low: float
    high: float


def busy_cores() -> float:
    """Return how many cores are in use while this process waits some seconds.

    Not the system's load: that still counts, for a minute, what was measured just before.
    """
    return float(round(psutil.cpu_percent(LOOK) / 100 * psutil.cpu_count(), 2))


def alternate(workers: Mapping[str, Worker], rounds: int, calls: Mapping[str, int]) -> dict[str, list[float]]:
    """Let workers take turns, one after the other in rotating order; return microseconds a call of each turn.

    Args:
        workers: by name; each answers a number of calls with the microseconds of one.
        rounds: turns of each.
        calls: of a turn, by name.
    """
    names = list(workers)
    turns: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in (*names[shift:], *names[:shift]):
            turns[name].append(workers[name].ask(calls[name])[0])
    return turns


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the ratio of `mine` to `theirs`, turn by turn."""
    return spread([a / b for a, b in zip(mine, theirs, strict=True)])


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles of `values`, at least two."""
    low, middle, high = statistics.quantiles(values, n=4)
    return Spread(middle, low, high)
