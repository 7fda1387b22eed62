"""Groups of unknown images that are alike: what a device could be taught a name for.

The evidence that an image is of a group is the logarithm of how much likelier it is as one more image of a class that
had the group's images than as one of a class not seen so far (probabilistic LDA, Ioffe 2006). An image joins the group
with the most, if that is most of what images of one class give on average. Both follow from the covariances that the
bank has of the classes it knows. Only a mean and a count are kept of a group: 32 of them, at most.

Dimensions: G groups, N images, d features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_host.shared.bank.mixture import Mixture

__all__ = ["GROUPS", "OFFERED", "Unknowns"]

Array = np.ndarray[Any, Any]
HIGHEST = 1 << 53  # number of a group, and more than there will ever be
GROUPS = 32  # at most; for another one, the least recently seen gives way
OFFERED = 7  # images from which a group is worth a name
MOST = 0.75  # of the evidence that images of one class give on average


class Unknowns:
    """The groups seen so far; they are numbered from 1 on, and no number is used twice.

    Args:
        groups: mean [d] float32 and images of each by its number, the last seen at the end.
        last: the highest number used so far.
    """

    def __init__(self, groups: Mapping[int, tuple[Array, int]] | None = None, last: int = 0) -> None:
        self._groups = dict(groups or {})
        self._last = max([last, *self._groups])

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], width: int) -> Unknowns:
        """Return the groups whose `arrays()` these are, for d = `width`; of more than `GROUPS` the last seen.

        Raises:
            KeyError, ValueError: they are not such arrays.
        """
        number, mean, count, last = (arrays[name] for name in ("number", "mean", "count", "last"))
        groups = len(number)
        if (number.shape, mean.shape, count.shape) != ((groups,), (groups, width if groups else 0), (groups,)):
            raise ValueError(f"{groups} groups of unknown images have means {list(mean.shape)}, not [., {width}]")
        used = np.all((number > 0) & (number <= last)) and len(np.unique(number)) == groups and 0 < last < HIGHEST
        if not (used and np.all(count > 0) and np.isfinite(mean).all()):
            raise ValueError("groups of unknown images have numbers that cannot be")
        rows = zip(number.tolist(), mean.astype(np.float32), count.tolist())
        kept = [(int(one), (row, int(images))) for one, row, images in rows]
        return cls(dict(kept[-GROUPS:]), int(last))

    def arrays(self) -> dict[str, Array]:
        """Return copies by name: number [G], mean [G, d] and count [G], the last seen at the end, and last; or none.

        There are none where no unknown image was ever seen.
        """
        if not self._last:
            return {}
        means = [mean for mean, _ in self._groups.values()]
        return {
            "number": np.array(list(self._groups), np.int64),
            "mean": np.stack(means) if means else np.zeros((0, 0), np.float32),
            "count": np.array([images for _, images in self._groups.values()], np.int64),
            "last": np.array(self._last, np.int64),
        }

    def records(self) -> list[dict[str, Any]]:
        """Return group (its number), images and offered (worth a name) of each, by number."""
        counts = sorted((number, images) for number, (_, images) in self._groups.items())
        return [{"group": number, "images": images, "offered": images >= OFFERED} for number, images in counts]

    def copy(self, last: int = 0) -> Unknowns:
        """Return an independent copy that uses no number up to `last` for a new group."""
        return Unknowns(self._groups, max(last, self._last))

    @property
    def last(self) -> int:
        """The highest number used so far; 0 for none."""
        return self._last

    def see(self, mixture: Mixture, feature: Array) -> tuple[int, int]:
        """Take in an unknown image's feature [d]; return its group's number and how many images that has by now.

        An image that is seen again counts again.
        """
        numbers, evidence = self._evidence(mixture, feature[None])
        if numbers and evidence[0].max() > 0.0:
            number = numbers[int(evidence[0].argmax())]
            mean, count = self._groups.pop(number)
        else:
            self._last += 1
            number, mean, count = self._last, np.zeros(len(feature), np.float32), 0
            if len(numbers) == GROUPS:
                del self._groups[numbers[0]]
        self._groups[number] = (np.asarray(mean + (feature - mean) / (count + 1), np.float32), count + 1)
        return number, count + 1

    def forget(self, mixture: Mixture, feature: Array) -> None:
        """Forget the groups that images which have a name now, features [N, d], fall into."""
        numbers, evidence = self._evidence(mixture, feature)
        if numbers:
            for place in np.unique(evidence.argmax(axis=1)[evidence.max(axis=1) > 0.0]):
                del self._groups[numbers[place]]

    def clear(self) -> None:
        """Forget all groups."""
        self._groups.clear()

    def _evidence(self, mixture: Mixture, feature: Array) -> tuple[list[int], Array]:
        """Return the groups' numbers, and how much more evidence than it takes to join features [N, d] give, [N, G]."""
        metric = mixture.bank.metric()
        count = np.array([images for _, images in self._groups.values()])[:, None]  # (G, 1)
        if not len(count):
            return [], np.zeros((len(feature), 0))
        mean = mixture.white(np.stack([mean for mean, _ in self._groups.values()]))  # (G, d)
        white = mixture.white(feature).astype(np.float64)  # (N, d)
        kept = metric.spread / (metric.spread + 1.0 / count)
        mean, same, new = metric.centre + (mean - metric.centre) * kept, 1.0 + kept / count, 1.0 + metric.spread
        away = white**2 @ (1.0 / same).T - 2.0 * white @ (mean / same).T + np.sum(mean**2 / same, axis=1)  # (N, G)
        found = np.sum((white - metric.centre) ** 2 / new, axis=1)[:, None] - away
        average = np.sum(np.log(new / same), axis=1)  # (G,), twice the evidence of one more image of the group's class
        return list(self._groups), 0.5 * (found + (1.0 - MOST) * average)
