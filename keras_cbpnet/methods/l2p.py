"""L2P: a pool of prompts in front of a linear classifier."""

from __future__ import annotations

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.layers import interfaces
from keras_cbpnet.layers.prompt_pool import PromptPool
from keras_cbpnet.methods.method import LinearMethod


class L2P(LinearMethod):
    """Each image puts the five prompts of ten whose keys are nearest to it before its tokens.

    Source: Wang et al., Learning to prompt for continual learning, arXiv 2112.08654.
    Deviations: those of `PromptPool`, and those of `dualprompt` in the training.
    """

    in_bundle = False  # TOP_K is not an operator of TFLM

    def prompts(self, config: TrainConfig, width: int) -> interfaces.Prompts:
        return PromptPool(width=width, name="prompts")
