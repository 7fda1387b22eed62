"""Continual backpropagation that a surprise hurries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_cbpnet.plasticity.cbp import Cbp
from keras_cbpnet.plasticity.step import Head, State, renew_units


@dataclasses.dataclass(frozen=True)
class CbpSurprise(Cbp):
    """As `cbp`; and where the head does worse than a guess, all mature units are reborn behind their incoming weights.

    A batch whose loss, before its step, is above ln K (K classes compete: what a head that knows nothing has) says that
    labels mean something else now. What the units detect may serve again, what they were taken for does not: outgoing
    weights, Adam slots, traces and ages start anew, and with them all else between the units and the logits. Boundaries
    between tasks are not told; units born after one surprise are too young for a second that follows at once.

    Source: ours. The rebirth is that of Dohare et al., Nature 632 (2024); that a stale last layer is most of what is
    lost, of Nikishin et al., arXiv 2205.07802. `calming` is inverse time decay, Robbins and Monro (1951).

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
        mature = ops.cast(new["age"] > head.config.maturity_threshold, "float32")  # (h,)
        worse = ops.cast(result["loss"] > ops.log(ops.sum(class_mask)), "float32")
        surprised = worse * ops.max(mature)
        self._renew(new, mature * surprised, surprised)
        new["calm"] = (state["calm"] + 1.0) * (1.0 - surprised)
        return new, result

    def _renew(self, new: State, reborn: Any, surprised: Any) -> None:
        """Let the units marked in `reborn` [h] be reborn in `new`; clear the classifier where `surprised` [] is 1."""
        incoming = {name: new[name] for name in ("w1", "b1")}
        renew_units(new, reborn, new["w1"])
        new.update(incoming)
        for name in ("w3", "b3") if "w3" in new else ("b2",):
            for tensor in (name, f"m_{name}"):
                if tensor in new:  # without Adam there are no moments
                    new[tensor] = new[tensor] * (1.0 - surprised)
