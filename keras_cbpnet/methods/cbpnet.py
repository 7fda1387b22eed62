"""CBPNet: DualPrompt's prompts, and a block that learns by continual backpropagation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_cbpnet.config import HeadConfig, TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.methods.method import SELECTING, Method, Row, Seen, check_selection, dual_prompts, given, mixed_head

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class CBPNetMethod(Method):
    """Prompts and block train together, then the block alone on the features of the prompts that images select.

    Source: CBPNet, arXiv 2509.15785; prompts as in `dualprompt`, unit resets as in the rule `cbp`.
    Deviations: the text at hand does not give the block's form, so it is a choice (`--block`), the default classifying
    by class means seen through the block; the second part of the training is ours; other rules instead of continual
    backpropagation (`--plasticity`), and the block without prompts (`--no-prompts`), are ablations; a query from an
    early block (`--query-depth`) and one prompt for all (`--prompt-selection fixed`) are ours, to spare a pass. A bank
    of class statistics predicts beside the block and is not of the paper (`--no-bank` leaves it out).
    """

    sees_views = True
    options = ("plasticity", "prompts", "bank", "views", *SELECTING)

    def check(self, config: TrainConfig) -> None:
        super().check(config)
        for option in SELECTING if not config.prompts else ():
            if getattr(config, option) != getattr(TrainConfig(), option):
                raise UserError(f"{given(config, option)} is for prompts; give --prompts too")
        check_selection(config)
        self._sizes(config, slots=1)

    def prompts(self, config: TrainConfig, width: int) -> interfaces.Prompts:
        if not config.prompts:
            from keras_cbpnet.layers.no_prompts import NoPrompts

            return NoPrompts(name="prompts")
        return dual_prompts(config, width)

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        sizes = self._sizes(config, slots)
        if not config.bank:
            from keras_cbpnet.layers.cbp_head import CBPHead

            return CBPHead(sizes, config.plasticity, config.seed, own_step=True, name="head")
        from keras_cbpnet.layers.mixed_head import MixedHead

        rebinds = config.stream == "drifting"
        return MixedHead(sizes, config.plasticity, config.seed, rebinds=rebinds, name="head")

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        if config.bank:
            mixed_head(model).learn_bank(seen.features, seen.labels, seen.rng, seen.views)
        return super().learn_head(model, seen, config)

    def _sizes(self, config: TrainConfig, slots: int) -> HeadConfig:
        own = ("block", "units", "batch", "decay_rate", "replacement_rate", "maturity_threshold", "learning_rate")
        return HeadConfig(slots=slots, **{name: getattr(config, name) for name in own})
