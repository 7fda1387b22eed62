"""Plain backpropagation."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from keras_cbpnet.plasticity.rule import Rule


@dataclasses.dataclass(frozen=True)
class Nothing(Rule):
    """The shared step without unit resets: backpropagation with Adam (Kingma and Ba, arXiv 1412.6980), and no more."""

    on_device: ClassVar[bool] = True
