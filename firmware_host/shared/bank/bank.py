"""A bank of Gaussian slots: classes by their means, one covariance shared by all, and a few directions of each.

Nothing is trained, so nothing is forgotten: every image is added to sums. What is learned of things (slots) is kept
apart from what they are called (the binding of labels to slots): a label whose losses say that it means something else
is bound to a fresh slot, and to an old one as soon as that one is recognised.

Dimensions: K slots, C labels (class slots of the head), d features, r directions of a slot, N images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from firmware_host.shared.bank.metric import SETTLED, SHRINKAGE, Metric, renewed
from firmware_host.shared.bank.novelty import Novelty
from firmware_host.shared.bank.sums import Sums

__all__ = ["Bank"]

Array = np.ndarray[Any, Any]
TEMPERATURE = 0.2  # of densities, whose features are taken as independent, to logits
GROWTH = 1.02  # a metric is renewed when so many times its images have been seen
ALARM = 6.0  # of Page's sum of losses, from which every label is doubted
MANY = 2000.0  # images that the shared covariance counts for after an alarm
YOUNG_LOSS = -0.5  # what a label too young to tell adds to Page's sum
TRIAL = 6  # images of a doubted label before it is settled
SAME = -0.9  # mean loss of them up to which it means what it did
LADDER = (32.0, 48.0)  # images at which a slot is compared with those that have no label
ALIKE, APART = 1.35, 1.5  # of means of one thing: squared distance in that by chance, and beyond it, in variances
ALIKE_ALONE, APART_ALONE, ALONE = 1.5, 3.0, 2.0  # both where the next slot is so many times further
NONE = -1e9


class Bank:
    """See the module.

    Args:
        arrays: the tensors of `BANK`; they are changed in place.
        mean, scale: [d] each, of the features, which are standardised by them.
        rebinds: whether labels may change their meaning; where they may not, new looks of a class join its old ones.
    """

    def __init__(self, arrays: Mapping[str, Array], mean: Array, scale: Array, rebinds: bool = True) -> None:
        self.sums = Sums(arrays)
        self.binding, self.trial, self.doubted, self.tried = (
            arrays[name] for name in ("binding", "trial", "doubted", "tried")
        )
        self.novelty = Novelty(arrays)
        self.used, self.clock, self.page = (arrays[name] for name in ("used", "clock", "page"))
        self._mean, self._scale, self._rebinds = np.asarray(mean, np.float32), np.asarray(scale, np.float32), rebinds
        self._metric: Metric | None = None
        self._renewal: Iterator[Metric] | None = None
        self._since: set[int] = set()  # slots that moved while it went on
        self._moved: set[int] = set()

    @property
    def labels(self) -> Array:
        """Labels that are bound to a slot, ascending."""
        return np.flatnonzero(self.binding > 0)

    # --- predictions ----------------------------------------------------------------------------------------------
    def logits(self, feature: Array) -> Array:
        """Return the logits [N, C] of features [N, d]; -1e9 for labels without a slot."""
        return self.judge(feature)[0]

    def judge(self, feature: Array) -> tuple[Array, Array]:
        """Return `logits` and each image's log density under its likeliest label, [N]; 0 where no label is known."""
        z = np.full((len(feature), len(self.binding)), NONE, np.float32)
        density, labels = np.zeros(len(feature), np.float32), self.labels
        if len(labels):
            slots = self.binding[labels] - 1
            scores, density = self.metric().scores(self._standardised(feature), self.sums.count, slots)
            z[:, labels] = TEMPERATURE * scores
        return z, density

    def settled(self, label: Array, images: float = SETTLED) -> Array:
        """Return for each label [N] whether it is bound to a slot of at least so many images."""
        bound = self.binding[label]
        settled: Array = (bound > 0) & (self.sums.count[bound - 1] >= images)
        return settled

    def metric(self) -> Metric:
        """Return the metric in use, as it is after all that was learned."""
        metric = self._metric or self.renew()
        for slot in self._moved:
            metric.move(self.sums, slot)
        self._moved.clear()
        return metric

    def renew(self) -> Metric:
        """Renew the metric, all at once, and return it."""
        *_, metric = renewed(self.sums)
        self._metric, self._renewal, self._moved = metric, None, set()
        return metric

    def _standardised(self, feature: Array) -> Array:
        return (np.asarray(feature, np.float32) - self._mean) / self._scale

    # --- learning -------------------------------------------------------------------------------------------------
    def learn(self, feature: Array, label: Array) -> None:
        """Take labelled images in, features [N, d] and labels [N]; the losses of all are judged before the first."""
        x = self._standardised(feature)
        loss = self._watch(x, label) if self._rebinds else np.full(len(label), np.nan)
        for c in np.unique(label):
            mine = label == c
            self._learn(int(c), x[mine], loss[mine])
        self._renew_a_piece()

    def learn_classes(self, feature: Array, label: Array, weight: float = 1.0) -> None:
        """Take in many images as `learn`, class by class, where no label has changed its meaning.

        Each counts as `weight` images.
        """
        x = self._standardised(feature)
        for c in np.unique(label):
            self._learn(int(c), x[label == c], np.full(1, np.nan), weight)
        self._metric = self._renewal = None

    def adopt(self, label: int, mean: Array, count: float) -> None:
        """Take a class over of which only the mean [d] of `count` images is known."""
        slot = self._free()
        self.binding[label] = slot + 1
        self.sums.mean[slot], self.sums.count[slot] = self._standardised(mean), count
        self._moved.add(slot)

    def leave_open(self, variance: Array) -> None:
        """Let `variance` [C], in those within a class, be open in the mean of each label: how its images would look."""
        bound = np.flatnonzero(self.binding)
        slots = self.binding[bound] - 1
        moved = slots[self.sums.apart[slots] != variance[bound].astype(np.float32)]
        self.sums.apart[slots] = variance[bound]
        self._moved |= set(moved.tolist())

    def forget(self, label: int) -> None:
        """Empty the slots of a label and unbind it."""
        for table in (self.binding, self.trial):
            if table[label]:
                self.sums.clear(int(table[label]) - 1)
        self.binding[label] = self.trial[label] = self.doubted[label] = 0
        self.tried[label] = 0.0
        self._metric = self._renewal = None

    def _learn(self, c: int, x: Array, loss: Array, weight: float = 1.0) -> None:
        if not self.binding[c]:
            self.binding[c] = self._free() + 1
        if self.doubted[c]:
            self.doubted[c] = 0
            if len(self._idle()):
                self.trial[c], self.tried[c] = self._free() + 1, 0.0
        slot = int(self.trial[c] or self.binding[c]) - 1
        before = self.sums.count[slot]
        self.sums.add(slot, x, weight)
        self.clock += 1
        self.used[slot] = self.clock
        self._moved.add(slot)
        if self.trial[c]:
            self._settle(c, loss)
        elif self._rebinds and any(before < step <= self.sums.count[slot] for step in LADDER):
            self._recognise(c)

    def _idle(self) -> Array:
        """Return the slots that no label is bound to."""
        return np.setdiff1d(np.arange(len(self.used)), np.concatenate([self.binding, self.trial]) - 1)

    def _free(self) -> int:
        """Return an empty slot; without one, the least recently used that no label is bound to is reset."""
        idle = self._idle()
        if not len(idle):
            c = int(np.flatnonzero(self.trial)[0])
            idle, self.trial[c] = np.array([self.trial[c] - 1]), 0
        empty = idle[self.sums.count[idle] == 0]
        slot = int(empty[0] if len(empty) else idle[np.argmin(self.used[idle])])
        self.sums.clear(slot)
        return slot

    def _renew_a_piece(self) -> None:
        if self._metric is None:
            return
        if self._renewal is None and float(self.sums.total) > GROWTH * self._metric.total + 1:
            self._renewal, self._since = renewed(self.sums), set()
        if self._renewal is not None:
            self._since |= self._moved
            metric = next(self._renewal)
            if metric.whole:
                self._metric, self._renewal, self._moved = metric, None, self._moved | self._since

    # --- labels that change their meaning --------------------------------------------------------------------------
    def _watch(self, x: Array, label: Array) -> Array:
        """Return each image's loss in units of a guess's, less 1, -1 to 1; nan where its label is too young to tell.

        Page's test (1954) looks for losses above a guess's, which cast doubt on every label. What looks like nothing
        known counts as the largest, whichever label it is nearest to.
        """
        loss, unlike = self._losses(x, label)
        for c, value in zip(label, np.where(unlike, 1.0, loss)):
            if self.trial[c] or self.doubted[c]:
                continue
            self.page[()] = max(0.0, float(self.page) + (YOUNG_LOSS if np.isnan(value) else value))
            if self.page > ALARM:
                self.doubted[(self.binding > 0) & (self.trial == 0)] = 1
                self.page[()] = 0.0
                self.sums.fade(MANY)
                self._metric = self._renewal = None
        return loss

    def _losses(self, x: Array, label: Array) -> tuple[Array, Array]:
        loss, unlike, labels = np.full(len(label), np.nan), np.zeros(len(label), bool), self.labels
        known = np.flatnonzero(self.settled(label))
        if len(known) and len(labels) > 1 and self.sums.total > 2 * x.shape[1]:
            slots = self.binding[labels] - 1
            density = self.metric().scores(x[known], self.sums.count, slots, near=1)[0].astype(np.float64)
            z = TEMPERATURE * (density - density.max(axis=1, keepdims=True))
            own = np.arange(len(known)), np.searchsorted(labels, label[known])
            loss[known] = np.clip((np.log(np.exp(z).sum(axis=1)) - z[own]) / np.log(len(labels)) - 1.0, -1.0, 1.0)
            unlike[known] = self.novelty.unlike(density[own])
        return loss, unlike

    def _settle(self, c: int, loss: Array) -> None:
        """A doubted label's images go to a slot on trial: it becomes the label's, or joins the old one that fits."""
        told = loss[~np.isnan(loss)]
        self.tried[c] += (told.sum(), len(told))
        slot, old = int(self.trial[c]) - 1, int(self.binding[c]) - 1
        # Beside an old slot too young to tell no loss is ever told; then the two slots' means alone decide.
        if self.tried[c, 1] < TRIAL and self.sums.count[slot] < SETTLED:
            return
        self.trial[c] = 0
        squared, expected = self._apart(slot, np.array([old]))
        if self.tried[c, 0] > SAME * self.tried[c, 1] or squared[0] > ALIKE * expected[0]:
            self.binding[c] = slot + 1
        else:
            self._merge(slot, old)

    def _recognise(self, c: int) -> None:
        """Bind a label to an old slot if its slot's mean is as near to that one's as two means of one thing are."""
        slot, idle = int(self.binding[c]) - 1, self._idle()
        old = idle[self.sums.count[idle] >= SETTLED]
        if not len(old):
            return
        squared, expected = self._apart(slot, old)
        ratio, beyond = squared / expected, squared - expected
        nearest, second = np.argmin(ratio), np.partition(ratio, 1)[1] if len(old) > 1 else np.inf
        alone = second > ALONE * ratio[nearest]
        alike, apart = (ALIKE_ALONE, APART_ALONE) if alone else (ALIKE, APART)
        if ratio[nearest] < alike and beyond[nearest] < apart:
            self._merge(slot, int(old[nearest]))
            self.binding[c] = old[nearest] + 1

    def _apart(self, slot: int, others: Array) -> tuple[Array, Array]:
        """Return squared distances of a slot's mean to other slots', in variances, and what chance makes of them."""
        d = len(self._mean)
        covariance = self.sums.scatter.astype(np.float64) / max(float(self.sums.total), 1.0)
        covariance += SHRINKAGE * np.trace(covariance) / d * np.eye(d)
        apart = (self.sums.mean[others] - self.sums.mean[slot]).astype(np.float64)
        expected = d * (1.0 / self.sums.count[slot] + 1.0 / self.sums.count[others])
        return np.sum(apart * np.linalg.solve(covariance, apart.T).T, axis=1), expected

    def _merge(self, slot: int, into: int) -> None:
        self.sums.merge(slot, into)
        self.used[into] = self.clock
        self._moved |= {slot, into}
