"""RanPAC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.methods.method import Method, Row, Seen

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class RanPAC(Method):
    """Ridge regression on random ReLU features of the frozen ones.

    Source: McDonnell et al., arXiv 2307.02251.
    Deviations: those of `RanPACHead`; no adaptation of the backbone on the first task.
    """

    in_bundle = False

    def check(self, config: TrainConfig) -> None:
        super().check(config)
        if config.stream == "drifting":
            raise UserError(
                "--method ranpac sums over all tasks: --stream drifting, which uses labels again, is not for it"
            )

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        from keras_cbpnet.layers.ranpac_head import RanPACHead

        return RanPACHead(slots, name="head")

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        yield {"ridge": model.head.learn(seen.features, seen.labels, seen.rng)}
