"""Continual backpropagation with drift detection: it notices when labels mean something else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_cbpnet.head.equations import Head, State
from keras_cbpnet.lazy import ops
from keras_cbpnet.plasticity.cbp import Cbp
from keras_cbpnet.plasticity.head_reset import HeadReset


@dataclasses.dataclass(frozen=True)
class CbpSurprise(Cbp):
    """As `cbp`; where the head does worse than guessing, its output layer is reset, as `head_reset` does between tasks.

    This is drift detection. A batch whose loss, before its step, is above ln K (that of guessing among the K classes
    that compete) is called a surprise: labels mean something else now. What the units detect may serve again, what they
    were taken for does not. Boundaries between tasks are not told. Like a young unit, a young output layer is spared
    for `maturity_threshold` steps.

    Source: ours, of two known parts: resets of units, Dohare et al., Nature 632 (2024), and resets of the output layer,
    Nikishin et al., arXiv 2205.07802. `calming` is inverse time decay of the step size (Robbins and Monro, 1951).

    Attributes:
        calming: steps after a surprise in which the learning rate falls to a half, in twice as many to a third; 0: it
            does not fall.
    """

    calming: float = 0.0

    def start(self, state: Mapping[str, Any]) -> State:
        return {**state, "calm": ops.zeros(())}  # steps since the last surprise

    def learn(
        self,
        head: Head,
        state: Mapping[str, Any],
        feature: Any,
        label: Any,
        class_mask: Any,
        learning_rate: Any,
        fresh: Any,
        seed: Any,
    ) -> tuple[State, State]:
        if self.calming:
            learning_rate = learning_rate / (1.0 + state["calm"] / self.calming)
        new, result = head.train(state, feature, label, class_mask, learning_rate, fresh)
        new["calm"] = new["calm"] + 1.0
        begun = {**HeadReset().begin_task(head, new, seed), "calm": ops.zeros(())}
        grown = state["calm"] >= head.config.maturity_threshold
        surprised = ops.logical_and(grown, result["loss"] > ops.log(ops.sum(class_mask)))
        changed = [name for name in begun if begun[name] is not new[name]]
        new.update({name: ops.where(surprised, begun[name], new[name]) for name in changed})
        return new, result
