"""Rollback: watches learning from outside and undoes training steps that break the head.

A head is broken when a loss or a tensor is not finite, when logits explode, or when the accuracy on features drawn from
the class statistics collapses. Dimensions: n probe rows, d features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from firmware_host.bundle import ClassStatistics
from firmware_host.engines.protocol import Head

__all__ = ["MAX_DROP", "MAX_LOGIT", "Guard"]

MAX_LOGIT = 1e3  # a sound head stays below 100
MAX_DROP = 0.2  # of the accuracy on the probe, since the best so far
PROBE_ROWS = 64


class Guard:
    """Remembers the last sound state of a head.

    Args:
        head: the head that is going to be trained.
        statistics: of the classes seen so far; the probe is drawn from them, always the same for the same statistics.
        accuracy: whether to watch the accuracy too, as where old classes are replayed.
    """

    def __init__(self, head: Head, statistics: ClassStatistics, accuracy: bool = True) -> None:
        self._head = head
        self._sound = head.get_state()
        self._probe = None
        if len(statistics.seen):
            self._probe = statistics.sample(np.random.default_rng(0), PROBE_ROWS)  # (n, d), (n,)
        self._watched = accuracy
        self._best = self._look()[0]

    def judge(self, losses: Sequence[float]) -> str | None:
        """Return None and remember the head as sound, or roll it back to when it was and return why.

        `losses` are those of the training steps since the last call.
        """
        reason = self._fault(losses)
        if reason is None:
            self._sound = self._head.get_state()
        else:
            self._head.set_state(self._sound)
        return reason

    def _fault(self, losses: Sequence[float]) -> str | None:
        for loss in losses:
            if not math.isfinite(loss):
                return f"loss {loss}"
        for name, tensor in self._head.get_state().items():
            if not np.isfinite(tensor).all():
                return f"{name} is not finite"
        accuracy, largest = self._look()
        if not largest <= MAX_LOGIT:
            return f"logits up to {largest:.3g}"
        if self._watched and accuracy < self._best - MAX_DROP:
            return f"accuracy on replayed classes fell from {self._best:.0%} to {accuracy:.0%}"
        self._best = max(self._best, accuracy)
        return None

    def _look(self) -> tuple[float, float]:
        """Return the accuracy on the probe and the largest logit there; inf where one is not finite."""
        if self._probe is None:
            return 0.0, 0.0
        feature, slot = self._probe
        known = self._head.get_state()["class_mask"] > 0  # (C,)
        logits = self._head.infer(feature)[0]  # (n, C)
        largest = float(np.abs(logits[:, known]).max(initial=0.0))
        found = np.argmax(np.where(known, logits, -np.inf), axis=1)  # (n,)
        return float(np.mean(found == slot)), largest if math.isfinite(largest) else math.inf
