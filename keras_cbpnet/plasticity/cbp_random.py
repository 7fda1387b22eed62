"""Continual backpropagation with units chosen at random: the ablation of utility."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from keras_cbpnet.head.equations import Head, State
from keras_cbpnet.lazy import ops, tf
from keras_cbpnet.plasticity.cbp import Cbp


class RandomChoiceHead(Head):
    """The head that gives every unit a random score, drawn at each step, in place of its utility."""

    def _score(self, new: State, utility: Any, seen: Any) -> Any:
        key = ops.stack([1, ops.cast(new["step"], "int32")])
        return tf.random.stateless_uniform(utility.shape, key)


@dataclasses.dataclass(frozen=True)
class CbpRandom(Cbp):
    """As `cbp`, but any mature unit may be reset, useful or not.

    Source: the control of Dohare et al., Nature 632 (2024), for what utility is worth.
    Deviations: none.
    """

    head_class: ClassVar[type[Head]] = RandomChoiceHead
    on_device: ClassVar[bool] = False
