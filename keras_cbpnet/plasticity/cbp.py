"""Continual backpropagation."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from keras_cbpnet.config import HeadConfig
from keras_cbpnet.plasticity.rule import Rule


@dataclasses.dataclass(frozen=True)
class Cbp(Rule):
    """The shared step as it is: from time to time it resets the least useful mature unit.

    Source: Dohare et al., Loss of plasticity in deep continual learning, Nature 632 (2024).
    Deviations: those of the bundle contract: what a reset unit gave on average goes into the next bias, Adam's bias
        correction counts the steps of each unit, at most one unit per step. Its rates are the head's: `HeadConfig`.
    """

    on_device: ClassVar[bool] = True

    def settings(self, config: HeadConfig) -> HeadConfig:
        return config
