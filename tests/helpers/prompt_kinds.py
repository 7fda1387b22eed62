"""Models of each way to select the prompt, after two tasks."""

import keras
import numpy as np

from keras_cbpnet.config import HeadConfig, PromptConfig
from keras_cbpnet.layers.fixed_prompt import FixedPrompt
from keras_cbpnet.layers.prompts import Prompts
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

# Dimensions: B images, D width.
D, DEPTH = 16, 5
KINDS = {"early": {"query_depth": 2}, "fixed": {"prompt_selection": "fixed"}}


def make(kind, images, randomised, sizes, quantized=False):
    """A model after two tasks, whose prompts are no longer near 0."""
    keras.utils.set_random_seed(0)
    config = PromptConfig(length=2, expert_length=2, pool=3, query_depth=2 if kind == "early" else 0)
    prompts = FixedPrompt(config, D, name="prompts") if kind == "fixed" else Prompts(config, D, name="prompts")
    model = PromptedClassifier(sizes, prompts, HeadConfig(units=4, slots=4, batch=8), quantized=quantized)
    model.build()
    randomised(model.backbone)
    for slots in ([0, 1], [2, 3]):
        rows = images[slots[0] :: 4], images[slots[1] :: 4]
        query = model.query(np.concatenate(rows))
        model.begin_task(None if query is None else np.asarray(query), slots)
    for i, variable in enumerate((model.prompts.general, model.prompts.expert)):
        variable.assign(np.random.default_rng(i).normal(0, 1, variable.shape))
    return model
