"""L2P: a pool of prompts in front of a linear classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.methods.method import LinearMethod

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces


class L2P(LinearMethod):
    """Each image puts the five prompts of ten whose keys are nearest to it before its tokens.

    Source: Wang et al., Learning to prompt for continual learning, arXiv 2112.08654.
    Deviations: those of `PromptPool`, and those of `dualprompt` in the training.
    """

    in_bundle = False  # TOP_K is not an operator of TFLM

    def prompts(self, config: TrainConfig, width: int) -> interfaces.Prompts:
        from keras_cbpnet.layers.prompt_pool import PromptPool

        return PromptPool(width=width, name="prompts")
