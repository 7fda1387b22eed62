"""Resetting the output layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from firmware_host.bundle import BLOCKS
from keras_cbpnet.head.equations import Head, State
from keras_cbpnet.lazy import ops
from keras_cbpnet.plasticity.rule import Rule


@dataclasses.dataclass(frozen=True)
class HeadReset(Rule):
    """At the beginning of a task the output layer and its first Adam moments are set to zero; all before it stays.

    Source: Nikishin et al., The primacy bias in deep reinforcement learning, ICML 2022, arXiv 2205.07802.
    Deviations: at known task boundaries instead of a fixed period; the second moments are kept, for their bias
    correction counts the steps of units that are not reset. Block `prototype` has no output layer: its w2 and b2 are
        reset.
    """

    def begin_task(self, head: Head, state: Mapping[str, Any], seed: Any) -> State:
        cleared = [name for tensor in BLOCKS[head.config.block].last for name in (tensor, f"m_{tensor}")]
        return {**state, **{name: ops.zeros_like(state[name]) for name in cleared}}
