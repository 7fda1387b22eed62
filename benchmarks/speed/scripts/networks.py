"""Backbones as files, to be timed: `networks.py FOLDER [WEIGHTS]`.

Of each, NAME.RECIPE.tflite for every recipe of a bundle, and NAME.json, its sizes. How long a network takes does not
depend on its weights, so they are drawn where none are shipped or given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from keras_cbpnet.keras_settings import use_keras

NETWORKS = {"nano": "vit_nano_32", "deit": "deit_tiny_16_224"}
RECIPES = ("int8", "hybrid", "float32")
IMAGES = 8  # noise, that sets ranges


def main() -> None:
    """Write the files."""
    folder, *weights = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    use_keras("tensorflow")
    from keras_cbpnet.config import HeadConfig
    from keras_cbpnet.export.backbone import convert_backbone
    from keras_cbpnet.export.recipes import RECIPES as FLAGS
    from keras_cbpnet.layers.fake_quant import float32
    from keras_cbpnet.layers.no_prompts import NoPrompts
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.calibration import calibrate
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier
    from keras_cbpnet.models.weights import copy_weights
    from keras_cbpnet.presets import get_preset

    for name, preset in NETWORKS.items():
        config = get_preset(preset).backbone
        (folder / f"{name}.json").write_text(json.dumps(config.to_dict()))
        form = dataclasses.replace(config, whitening=True)
        model = PromptedClassifier(form, NoPrompts(name="prompts"), HeadConfig(), quantized=True)
        model.build()
        if weights and not get_preset(preset).weights:
            copy_weights(Backbone.from_preset(preset, weights[0]), model.backbone)
        size = config.image_size
        images = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 3), np.uint8)
        calibrate(model, model.features, images)
        for recipe in RECIPES:
            with contextlib.nullcontext() if FLAGS[recipe].quantized_activations else float32(model):
                content = convert_backbone(model, recipe, images)
            (folder / f"{name}.{recipe}.tflite").write_bytes(content)


if __name__ == "__main__":
    main()
