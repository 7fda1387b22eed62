"""The model of a run."""

from __future__ import annotations

import dataclasses

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.prompted_classifier import PromptedClassifier
from keras_cbpnet.models.sizes import sizes
from keras_cbpnet.models.weights import copy_weights
from keras_cbpnet.presets import get_preset
from keras_cbpnet.tables import METHODS


def build_model(config: TrainConfig, classes: int) -> PromptedClassifier:
    """Return the untrained model of a run, its backbone with the weights of the preset or of the file that is named.

    Args:
        config: of the run.
        classes: of the data set, which set the number of slots where the configuration leaves it open.

    Raises:
        UserError: there are no such weights, or they do not fit.
    """
    preset, method = get_preset(config.preset), METHODS[config.method]()
    prompts = method.prompts(config, preset.backbone.width)
    head = method.head(config, config.slots or -(-classes // 16) * 16)
    source = Backbone.from_preset(config.preset, config.weights, depth=config.depth)
    # A rotation of the tokens, before quantization, is undone by a dense layer.
    white = config.qat or config.whiten != "none" or preset.backbone.whitening
    form = dataclasses.replace(sizes(preset, config.weights, config.depth), whitening=white)
    model = PromptedClassifier(form, prompts, head, quantized=config.qat, name=config.method)
    model.build()
    copy_weights(source, model.backbone)
    return model
