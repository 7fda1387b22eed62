"""Continual backpropagation."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from keras_cbpnet.config import HeadConfig
from keras_cbpnet.plasticity.rule import Rule


@dataclasses.dataclass(frozen=True)
class Cbp(Rule):
    """The shared step as it is: now and then the least useful mature unit is reborn.

    Source: Dohare et al., Loss of plasticity in deep continual learning, Nature 632 (2024).
    Deviations: those of the bundle contract: what a reborn unit gave on average goes into the next bias, Adam's bias
    correction counts a unit's own steps, at most one unit a step. Its rates are the head's: `HeadConfig`.
    """

    on_device: ClassVar[bool] = True

    def settings(self, config: HeadConfig) -> HeadConfig:
        return config
