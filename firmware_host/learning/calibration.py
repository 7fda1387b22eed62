"""The offset between the features of the device's camera and those that the class statistics come from.

Another camera moves all features, of every class, by nearly the same vector. One to five images of known classes show
it: the mean over classes of (mean through this camera - class mean), drawn to zero by how uncertain few images leave
it (empirical Bayes; James and Stein 1961). A scale beside the offset was tried and earned nothing on five images.

What a camera does to one class and not to another stays. How much that is, the same images tell: how far the shifts of
classes are apart, beyond what their few images leave open. The bank leaves a part of it open in the means of classes
that were learned through the other camera; else classes taught through this one would take their images.

Everything is measured in the space in which the covariance within a class is the identity.

Dimensions: K known classes, N images, d features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from firmware_host.engines.protocol import Array

__all__ = ["FALSE_ALARMS", "Offset", "Reference", "away", "left_open", "offsets_of_others"]

FALSE_ALARMS = 0.01  # share of sets of images from the same camera whose offset is found to be there
ALARM = 2.326  # quantile of the standard normal distribution that this share lies above
WORTH = 0.2  # least size of an offset that is worth a word; below, accuracy hardly changes
FAR = 1.5  # distances of new classes to the nearest known, in the largest between known ones, that no class explains
SEVERAL, TOGETHER = 3, 1.7  # new classes whose mean tells, and how far it lies off that no class explains; see `away`
SHRINKAGE = 0.05  # of the covariance to its diagonal's mean
LEFT_OPEN = 0.33  # share of the variance between the classes' shifts; more of it costs new classes too much
OF_EACH = 0.7  # of what a camera does to all classes, squared: what it does to one and not to another, as a rule
PARTS = 10  # of images, each of which gets the offset that the others tell
ROUNDS = 20  # of giving unlabelled images to classes; they settle after two or three


class Offset(NamedTuple):
    """An offset between cameras.

    Attributes:
        vector: [d], in the features' units; to be taken from every feature of the device's camera.
        size: its root mean square over directions, in deviations within a class.
        found: whether it is there: larger than chance explains, see `FALSE_ALARMS`, and worth a word.
        label: [N], the class of each image, by its label or as it was given to one.
    """

    vector: Array
    size: float
    found: bool
    label: Array


class Reference:
    """What the classes look like through the camera that their statistics come from.

    Args:
        mean: [K, d], of the known classes.
        covariance: [d, d], within a class.

    Raises:
        ValueError: no class is known, or their images do not differ.
    """

    def __init__(self, mean: Array, covariance: Array) -> None:
        self.mean = np.asarray(mean, np.float64)
        d = len(covariance)
        variance = float(np.trace(covariance)) / d
        if not len(self.mean) or not variance > 0.0:
            raise ValueError("nothing is known of how images of a class differ: convert the run again")
        shrunk = (1.0 - SHRINKAGE) * covariance + SHRINKAGE * variance * np.eye(d)
        self._back = np.linalg.cholesky(shrunk)  # L with L L' = covariance
        self._whitener = np.linalg.inv(self._back)

    def offset(self, feature: Array, label: Array | None = None) -> Offset:
        """Estimate the offset of a camera.

        Args:
            feature: [N, d], of at least two images of known classes.
            label: [N], each one's row of `mean`; None: they are given to the class that they are nearest to.

        Raises:
            ValueError: there are fewer than two images, they are all alike, or unlabelled and all of one class.
        """
        feature = np.asarray(feature, np.float64)
        if len(feature) < 2:
            raise ValueError("one image cannot tell a camera from a class: give two or more, of several classes")
        if not np.ptp(feature, axis=0).any():
            raise ValueError("all images are alike: give different ones")
        if label is None:
            label = self._nearest(feature)
            if len(np.unique(label)) < 2:
                raise ValueError("all images look like one class: give images of several classes, or labelled ones")
        away = self.white(feature - self.mean[label])  # (N, d)
        shift, uncertainty = self._shift(away, label)  # (d,)
        d, energy, classes = len(shift), float(shift @ shift), len(np.unique(label))
        kept = max(0.0, 1.0 - (d - 2) * uncertainty / energy) if energy > 0.0 else 0.0
        size = kept * np.sqrt(energy / d)
        there = uncertainty == 0.0 or _deviate(energy / d / uncertainty, d, classes) > ALARM
        found = bool(there and size >= WORTH)
        return Offset(kept * (self._back @ shift), float(size), found, label)

    def unlike_any(self, feature: Array, label: Array) -> bool:
        """Return whether new classes lie so far from all known ones that another camera explains it better.

        Each does, or several together do: their mean lies further off that of the known ones than chance puts it.
        Lessons of such classes alone cannot tell a class from a camera.

        Args:
            feature: [N, d], of images of new classes.
            label: [N], any numbers that tell these classes apart.
        """
        if len(self.mean) < 2:
            return False
        known, feature = self.white(self.mean), self.white(np.asarray(feature, np.float64))  # (K, d), (N, d)
        names, count = np.unique(label, return_counts=True)
        new = np.array([feature[label == name].mean(axis=0) for name in names])  # (k, d)
        chance = known.shape[1] / count  # what a mean of so few images is off by, squared
        largest = max(float(np.sum((known - each) ** 2, axis=1).max()) for each in known)
        nearest = np.array([np.sum((known - each) ** 2, axis=1).min() for each in new]) - chance
        each_far = float(np.mean(np.sqrt(np.maximum(nearest, 0.0)))) > FAR * np.sqrt(largest)
        return each_far or (len(new) >= SEVERAL and away(known, new, count) > TOGETHER)

    def white(self, feature: Array) -> Array:
        """Return features or differences of them, [..., d], where the covariance within a class is the identity."""
        white: Array = feature @ self._whitener.T
        return white

    def _nearest(self, feature: Array) -> Array:
        """Return the class of every image [N], offset and classes found in turn; of two starts the likelier one.

        The likelihood is that of images about their classes' means, and of an offset whose size is not known.
        """
        x, known = self.white(feature), self.white(self.mean)  # (N, d), (K, d)
        nearness = x @ known.T - 0.5 * np.sum(known**2, axis=1)  # (N, K)
        found: list[tuple[float, Array]] = []
        for shift in (np.zeros(x.shape[1]), x.mean(axis=0) - known.mean(axis=0)):
            label = np.full(len(x), -1)
            for _ in range(ROUNDS):
                before, label = label, np.argmax(nearness - known @ shift, axis=1)
                if np.array_equal(label, before):
                    break
                shift = (x - known[label]).mean(axis=0)
            unlikely = np.sum((x - shift - known[label]) ** 2) + len(shift) * np.log1p(shift @ shift / len(shift))
            found.append((float(unlikely), label))
        return min(found, key=lambda one: one[0])[1]

    def _shift(self, away: Array, label: Array) -> tuple[Array, float]:
        """Return the mean shift [d] over classes of images `away` [N, d] from their class means, and how uncertain.

        The uncertainty is the shift's variance in one direction, judged by how much the classes' shifts differ: so it
        counts the number of images, and what a camera does to one class and not to another. Of one class alone, it is
        judged by its images.
        """
        names = np.unique(label)
        each = np.array([away[label == name].mean(axis=0) for name in names]) if len(names) > 1 else away  # (., d)
        shift = each.mean(axis=0)
        freedom = each.shape[1] * len(each) * (len(each) - 1)
        return shift, float(np.sum((each - shift) ** 2)) / freedom


def away(known: Array, new: Array, count: Array) -> float:
    """Return how far the mean of new classes lies off that of known ones, squared; about 1 is chance.

    Classes that are less far apart than the known ones are of one kind, which lies off as a single class would.

    Args:
        known: [K, d], means of classes where the covariance within one is the identity.
        new: [k, d], likewise.
        count: [k], images that each of `new` is of.
    """
    uncertain = float(np.mean(known.shape[1] / count))  # of a mean of so few images, squared
    usual, among = _spread(known), max(0.0, _spread(new) - uncertain)
    chance = max(0.0, usual - among) + (among + uncertain) / len(new) + usual / len(known)
    squared = float(np.sum((new.mean(axis=0) - known.mean(axis=0)) ** 2))
    return squared / max(chance, 1e-12)


def _spread(mean: Array) -> float:
    """Return the variance of class means [n, d], summed over directions; 0 of one class."""
    return float(np.sum((mean - mean.mean(axis=0)) ** 2)) / max(len(mean) - 1, 1)


def offsets_of_others(reference: Reference, feature: Array, found: Offset) -> Array:
    """Return for each image the offset that images of other parts tell, [N, d]; so it had no part in it.

    Args:
        reference: the known classes.
        feature: [N, d], of the images that told an offset.
        found: that offset, which stands where others tell nothing.
    """
    part = np.arange(len(feature)) % min(PARTS, len(feature))
    told = np.tile(found.vector, (len(feature), 1))
    for held in np.unique(part):
        rest = part != held
        if rest.sum() > 1 and np.ptp(feature[rest], axis=0).any():
            told[~rest] = reference.offset(feature[rest], found.label[rest]).vector
    return told


def left_open(away: Array, label: Array, count: Array) -> float:
    """Return the variance to be left open, in each direction, for what a camera does to one class and not to another.

    Args:
        away: [N, d], images less the means of their classes, where the covariance within a class is the identity.
        label: [N], the class of each, below K.
        count: [K], images that each class mean is of.

    Returns:
        A part of the variance of the classes' shifts, less what few images explain of it; where no class has two
        images, which alone tell that, a part of what the camera does to all. 0 where all images are of one class.
    """
    names, images = np.unique(label, return_counts=True)
    if len(names) < 2:
        return 0.0
    each = np.array([away[label == name].mean(axis=0) for name in names])  # (., d)
    d, shift = each.shape[1], each.mean(axis=0)
    between = float(np.sum((each - shift) ** 2)) / (d * (len(names) - 1))
    if len(away) == len(names):
        of_all = float(shift @ shift) / d - between / len(names)
        return LEFT_OPEN * min(between, max(0.0, OF_EACH * of_all))
    within = away - each[np.searchsorted(names, label)]
    one = float(np.sum(within**2)) / (d * (len(away) - len(names)))  # of an image
    chance = one * float(np.mean(1.0 / images + 1.0 / np.maximum(count[names], 1.0)))
    return LEFT_OPEN * max(0.0, between - chance)


def _deviate(ratio: float, d: int, classes: int) -> float:
    """Return a ratio of variances as a standard normal deviate (Paulson 1942).

    The directions are taken as worth half their number: no covariance of few images whitens others entirely.
    """
    above = d / 2.0
    below = above * max(classes - 1, 1)
    a, b = 2.0 / (9.0 * above), 2.0 / (9.0 * below)
    root = ratio ** (1.0 / 3.0)
    return float(((1.0 - b) * root - (1.0 - a)) / np.sqrt(b * root * root + a))
