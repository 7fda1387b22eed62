"""Schedules: how many weights stay at each step of a training, which of them train, and when the mask changes.

Pure functions of the step. What executes them is a training's own; `benchmarks.sparsity` has a small one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from keras_cbpnet.errors import UserError
from keras_cbpnet.sparsity.budgets import check_density

__all__ = ["SCHEDULES", "Moment", "Schedule", "find_schedule"]


class Moment(NamedTuple):
    """What holds at one step.

    Attributes:
        density: share of the weights that stays, above 0 and at most 1.
        trains: `members` of the mask, or `others`, beside which members count but stay as they are.
        changes: whether the mask is made again before this step.
        swaps: share of the members that others replace then, 0..1; the least in magnitude are dropped.
        grows: what others are chosen by: the size of their `gradient`, or their `magnitude`.
    """

    density: float
    trains: str = "members"
    changes: bool = False
    swaps: float = 0.0
    grows: str = "gradient"


Schedule = Callable[[int, int], Moment]  # step (from 0), steps of the training -> what holds


def oneshot(density: float, every: int) -> Schedule:
    """The mask of the beginning stays."""
    return lambda step, steps: Moment(density)


def afterwards(density: float, every: int) -> Schedule:
    """All weights train, and at the last step the largest are kept: pruning without training again."""
    return lambda step, steps: Moment(density, changes=True) if step == steps - 1 else Moment(1.0)


def gmp(density: float, every: int) -> Schedule:
    """Gradual magnitude pruning (Zhu and Gupta, arXiv 1710.01878): from all to `density` by a cubic, in 3/4 of it."""

    def at(step: int, steps: int) -> Moment:
        done = min(1.0, step / (0.75 * steps))
        return Moment(density + (1.0 - density) * (1.0 - done) ** 3, changes=step > 0 and step % every == 0)

    return at


def rigl(density: float, every: int) -> Schedule:
    """RigL (Evci et al., arXiv 1911.11134): half of the members is swapped, falling by a cosine to none at 3/4."""

    def at(step: int, steps: int) -> Moment:
        end = 0.75 * steps
        swaps = 0.25 * (1.0 + math.cos(math.pi * step / end)) if step < end else 0.0
        changes = 0 < step < end and step % every == 0
        return Moment(density, changes=changes, swaps=swaps if changes else 0.0)

    return at


def east(density: float, every: int) -> Schedule:
    """The cyclic part of EAST (arXiv 2411.13545): two waves between `density` and three times it, then RigL.

    The waves take the first 2/5 of the training: d(p) = d_min + (d_max - d_min) (1 - cos 2 pi p) / 2.
    """
    rest = rigl(density, every)

    def at(step: int, steps: int) -> Moment:
        moment = rest(step, steps)
        phase = step / (0.4 * steps)
        if phase >= 1.0:
            return moment._replace(changes=moment.changes or step == math.ceil(0.4 * steps))
        wave = 0.5 * (1.0 - math.cos(4.0 * math.pi * phase))
        return moment._replace(density=min(1.0, density * (1.0 + 2.0 * wave)))

    return at


def iee(density: float, every: int) -> Schedule:
    """Iterative exploitation and exploration (arXiv 2502.03658), in three turns of `every` steps.

    The members train; a share of them is dropped and the rest trains; then the others train alone beside frozen
    members, and those that became largest grow. The share is 0.3 and falls exponentially over the training.
    """

    def at(step: int, steps: int) -> Moment:
        turn, begins = step // every % 3, step % every == 0
        if turn == 0:
            return Moment(density, changes=begins and step > 0, grows="magnitude")
        share = 0.3 * math.exp(-3.0 * (step - step % (3 * every)) / steps)
        reduced = density * (1.0 - share)
        return Moment(reduced, "others" if turn == 2 else "members", changes=begins and turn == 1)

    return at


SCHEDULES: Mapping[str, Callable[[float, int], Schedule]] = {
    "oneshot": oneshot, "afterwards": afterwards, "gmp": gmp, "rigl": rigl, "east": east, "iee": iee,
}  # fmt: skip


def find_schedule(name: str, density: float, every: int) -> Schedule:
    """Return the schedule `name` that ends at `density` and may change the mask every `every` steps.

    Raises:
        UserError: the name is unknown, the density not above 0 and at most 1, or `every` below 1.
    """
    if name not in SCHEDULES:
        raise UserError(f"unknown schedule {name!r}; choose one of {', '.join(SCHEDULES)}")
    check_density(density)
    if every < 1:
        raise UserError(f"the mask cannot change every {every} steps; give 1 or more")
    return SCHEDULES[name](density, every)
