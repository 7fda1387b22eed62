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
        self._squares, self._degrees = np.zeros((d, d)), 0.0
        for delta in self._deltas.values():
            self._squares += self._white(delta.scatter)
            self._degrees += delta.degrees
            for name, share in self._living(delta):
                mean, rows = self._centred(share)
                each = share.images * np.outer(mean, mean)
                self._squares += each
                one = _Class(name, share.life, 1, share.images, share.images * mean, rows.T @ rows + each)
                self._add(look(name), one)

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return len(self._deltas)

    def without(self, device: str) -> Delta:
        """Return what all devices but this one were taught, as a delta of `others_of(device)`; it may be empty.

        Raises:
            DeviceError: it is larger than a delta may be.
        """
        own = self._deltas.get(device)
        squares, degrees, less = self._squares.copy(), self._degrees, {}
        if own is not None:
            squares -= self._white(own.scatter)
            degrees -= own.degrees
            for name, share in self._living(own):
                mean, rows = self._centred(share)
                squares -= share.images * np.outer(mean, mean)
                less[look(name)] = self._classes[look(name)].without(share, mean, rows)
        classes = {}
        for key, whole in self._classes.items():
            left = less.get(key, whole)
            if left.devices == 0:
                continue
            mean = left.sum / left.images
            squares -= left.images * np.outer(mean, mean)
            degrees += left.devices - 1
            classes[left.name] = self._share(left) if key in less else self._whole(key)
        scale = self._expected.scale
        scatter = 0.5 * (squares + squares.T) * np.outer(scale, scale)
        forgotten = self._forgotten(device)
        noise = max((delta.noise for name, delta in self._deltas.items() if name != device), default=0.0)
        if self.devices == (own is not None):
            scatter, degrees = np.zeros_like(scatter), 0.0  # but for rounding
        number, backbone = others_of(device), self._expected.backbone
        left_over = Delta(number, 1, backbone, classes, scatter, max(degrees, 0.0), forgotten, noise)
        return Delta.from_bytes(left_over.to_bytes())  # as the device has it

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
