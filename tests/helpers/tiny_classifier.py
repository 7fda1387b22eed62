"""A small prompted classifier, and what a trainer does with it before `fit`."""

import keras
import numpy as np

from keras_cbpnet.config import BackboneConfig, HeadConfig, PromptConfig
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

# Dimensions: B images, D feature size, C class slots.
SIZES = BackboneConfig(image_size=16, stem=((8, 2),), patch_size=4, width=16, depth=2, heads=2, mlp_width=32)
PROMPTS = PromptConfig(length=2, expert_length=2, g_blocks=(0,), e_blocks=(1,), pool=3)
RATES = {"maturity_threshold": 2, "replacement_rate": 0.05, "learning_rate": 5e-3, "logit_scale": 5.0}
C = 6


def build(block="prototype", **changes):
    keras.utils.set_random_seed(0)
    model = PromptedClassifier(SIZES, PROMPTS, HeadConfig(block=block, units=8, slots=C, batch=8, **RATES), **changes)
    model.build()
    return model


def snapshot(layer):
    return {variable.path: np.array(variable.numpy()) for variable in layer.variables}


def head_state(model):
    return {name: np.array(value) for name, value in model.head.values().items()}


def observe(model, images, label, prompt=None):
    """Set the means of the classes in `label`, behind one prompt or behind the one that each image selects."""
    feature, state = np.array(model.features(images, prompt)[0]), head_state(model)
    for c in set(label.tolist()):
        state["class_mean"][c], state["class_count"][c] = feature[label == c].mean(axis=0), np.sum(label == c)
    model.head.assign({name: state[name] for name in ("class_mean", "class_count")})


def begin(model, images, label, compete=None):
    """What a trainer does before fit: a prompt, the slots, the class means behind that prompt."""
    model.begin_task(model.batched(model.query, images), sorted(set(label.tolist())), compete)
    observe(model, images, label, model.prompts.tasks - 1)


def of(values, name):
    return next(value for path, value in values.items() if path.endswith(f"/{name}"))
