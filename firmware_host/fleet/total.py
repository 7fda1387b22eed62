"""What a group was taught, as sums over its devices: so that a server tells each device what all others taught as one.

A server of N devices takes each delta in once, and gives each device the total without its own part: what that costs,
and what a device is sent, does not grow with N. Class statistics of a device that takes such a sum over are those of
one that took every delta over, up to float64's rounding; of the bank the directions are another choice of rows.

Sums are taken around the mean of all images, in units of each feature's deviation. Dimensions: d features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from firmware_host.fleet.check import Expected
from firmware_host.fleet.delta import Array, Delta, Share
from firmware_host.fleet.merge import dead_before, newest
from firmware_host.fleet.own import ROWS
from firmware_host.shared.names import look

__all__ = ["Total", "others_of"]

LEAST = 1e-9  # of the largest direction: what is less is rounding


def others_of(device: str) -> str:
    """Return the number under which all devices but one are told of."""
    return f"all-but-{device}"


@dataclass
class _Class:
    """A class: name, life, devices, images, sum of its images [d], and of the squares of its rows and means [d, d]."""

    name: str
    life: int
    devices: int
    images: float
    sum: Array
    squares: Array

    @property
    def between(self) -> Array:
        """What its mean adds to the sum of squares, [d, d]; nothing where no device is left."""
        return np.outer(self.sum, self.sum) / self.images if self.devices else np.zeros_like(self.squares)

    def without(self, share: Share, mean: Array, rows: Array) -> _Class:
        """Return it less what one device taught; `mean` [d] and `rows` [., d] of that in the sums' units."""
        squares = self.squares - rows.T @ rows - share.images * np.outer(mean, mean)
        images, left = self.images - share.images, self.sum - share.images * mean
        return _Class(self.name, self.life, self.devices - 1, images, left, squares)


class Total:
    """What a set of devices was taught.

    Args:
        deltas: of any devices, checked; of each the newest counts.
        expected: what they were held to.
    """

    def __init__(self, deltas: Iterable[Delta], expected: Expected) -> None:
        self._expected, self._deltas = expected, newest(deltas)
        d = len(expected.mean)
        self._dead = dead_before(self._deltas.values())
        self._classes: dict[str, _Class] = {}
        self._shares: dict[str, Share] = {}  # of classes whole, made when they are first asked for
        self._scatter, self._degrees = np.zeros((d, d)), 0.0
        for delta in self._deltas.values():
            self._scatter += self._white(delta.scatter)
            self._degrees += delta.degrees
            for name, share in self._living(delta):
                mean, rows = self._centred(share)
                each = share.images * np.outer(mean, mean)
                self._scatter += each
                one = _Class(name, share.life, 1, share.images, share.images * mean, rows.T @ rows + each)
                self._add(look(name), one)
        for held in self._classes.values():
            self._scatter -= held.between
            self._degrees += held.devices - 1

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return len(self._deltas)

    def without(self, device: str) -> Delta:
        """Return what all devices but this one were taught, as a delta of `others_of(device)`; it may be empty."""
        own = self._deltas.get(device)
        scatter, degrees = self._scatter.copy(), self._degrees
        less: dict[str, _Class] = {}
        if own is not None:
            scatter -= self._white(own.scatter)
            degrees -= own.degrees
            for name, share in self._living(own):
                whole, (mean, rows) = self._classes[look(name)], self._centred(share)
                left = less[look(name)] = whole.without(share, mean, rows)
                scatter += whole.between - left.between - share.images * np.outer(mean, mean)
                degrees -= whole.devices - 1 - max(left.devices - 1, 0)
        if self.devices == (own is not None):
            scatter, degrees = np.zeros_like(scatter), 0.0  # but for rounding
        classes = {
            left.name: self._share(left) if key in less else self._whole(key)
            for key, left in {**self._classes, **less}.items()
            if left.devices
        }
        scale, backbone = self._expected.scale, self._expected.backbone
        scatter = 0.5 * (scatter + scatter.T) * np.outer(scale, scale)
        noise = max((delta.noise for name, delta in self._deltas.items() if name != device), default=0.0)
        number, forgotten = others_of(device), self._forgotten(device)
        return Delta(number, 1, backbone, classes, scatter, max(degrees, 0.0), forgotten, noise)

    def _add(self, key: str, one: _Class) -> None:
        held = self._classes.setdefault(key, one)
        if held is one:
            return
        held.name, held.life = min(held.name, one.name), min(held.life, one.life)
        held.devices, held.images = held.devices + 1, held.images + one.images
        held.sum, held.squares = held.sum + one.sum, held.squares + one.squares

    def _living(self, delta: Delta) -> list[tuple[str, Share]]:
        """Return the classes of a delta that were not forgotten since."""
        return [item for item in sorted(delta.classes.items()) if item[1].life >= self._dead.get(look(item[0]), 0)]

    def _centred(self, share: Share) -> tuple[Array, Array]:
        """Return mean [d] and rows [., d], float64, in the sums' units."""
        mean = (share.mean - self._expected.mean) / self._expected.scale
        return mean, share.rows.astype(np.float64) / self._expected.scale

    def _white(self, scatter: Array) -> Array:
        scale = self._expected.scale
        return np.asarray(scatter / np.outer(scale, scale))

    def _whole(self, key: str) -> Share:
        if key not in self._shares:
            self._shares[key] = self._share(self._classes[key])
        return self._shares[key]

    def _share(self, one: _Class) -> Share:
        """Return a class with the rows whose squares are the leading part of its scatter."""
        mean = one.sum / one.images
        values, vectors = np.linalg.eigh(one.squares - one.images * np.outer(mean, mean))
        kept = [place for place in range(max(len(values) - ROWS, 0), len(values)) if values[place] > LEAST * values[-1]]
        kept = kept if values[-1] > LEAST * one.images else []
        rows = np.sqrt(values[kept])[:, None] * vectors[:, kept].T * self._expected.scale
        at = self._expected.mean + mean * self._expected.scale
        return Share(one.life, one.images, at, np.asarray(rows, np.float32))

    def _forgotten(self, device: str) -> dict[str, int]:
        """Return the names that devices but this one forgot, each with the life that begins after it."""
        found: dict[str, int] = {}
        for delta in self._deltas.values():
            for name, life in delta.forgotten.items() if delta.device != device else ():
                found[name] = max(life, found.get(name, 0))
        return found
