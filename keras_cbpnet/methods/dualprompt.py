"""DualPrompt: general and expert prompts in front of a linear classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.methods.method import SELECTING, LinearMethod, check_selection, dual_prompts

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces


class DualPrompt(LinearMethod):
    """CBPNet without its block.

    Source: Wang et al., DualPrompt: complementary prompting for rehearsal-free continual learning, arXiv 2204.04799.
    Deviations: as `cbpnet`, it ends each task with `--head-epochs` passes of the classifier alone over the features of
    the prompts that images select (0 for the paper's training); the classifier's features are standardised; a task's
    key starts at the mean direction of its queries.
    """

    options = SELECTING

    def check(self, config: TrainConfig) -> None:
        super().check(config)
        check_selection(config)

    def prompts(self, config: TrainConfig, width: int) -> interfaces.Prompts:
        return dual_prompts(config, width)
