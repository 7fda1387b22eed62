"""First-session adaptation: the first task's images adapt the backbone, which then is frozen for ever.

Adapters are linear and are merged before anything else happens, so bytes, operators and time of the backbone stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_cbpnet.data import Task
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.alore import ALoRE
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.training.adaptation_settings import Adaptation

# Dimensions: B images, d feature size, K classes of the task.

WARMUP = 0.1  # share of the steps
DECAY = 1e-4  # AdamW's, on the adapters
FEW_CLASSES, FEW_IMAGES = 5, 20  # below: the backbone may be fitted to what says little of the classes to come


class Adapted(keras.Model):
    """A backbone with an adapter after each block's two norms, and a classifier of one task; the backbone is frozen.

    Args:
        backbone: built; its blocks call the adapters until `merge`.
        classes: K.
        settings: of the adapters.
    """

    def __init__(self, backbone: Backbone, classes: int, settings: Adaptation, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.adapters = [ALoRE(settings.experts, settings.rank) for _ in range(2 * len(backbone.blocks))]
        self.classify = keras.layers.Dense(classes)
        self._body = lambda: backbone  # a function, so that its variables are not this model's
        for layer in (*self.adapters, self.classify):
            layer.build((None, backbone.config.width))
        for block, first, second in zip(backbone.blocks, self.adapters[::2], self.adapters[1::2], strict=True):
            block.adapt = (first.__call__, second.__call__)
        self.built = True

    def call(self, images: Any) -> Any:
        """Return the logits [B, K] of raw RGB `images` [B, S, S, 3]."""
        return self.classify(self._body().features(images))

    def merge(self) -> None:
        """Put every adapter into the dense layers after it, and take it off."""
        blocks = self._body().blocks
        for block, first, second in zip(blocks, self.adapters[::2], self.adapters[1::2], strict=True):
            pairs = [(first, layer) for layer in (block.query, block.key, block.value)] + [(second, block.expand)]
            for adapter, layer in pairs:
                kernel, bias = adapter.merge(layer.kernel, layer.bias)
                layer.kernel.assign(kernel)
                layer.bias.assign(bias)
            block.adapt = None


def adapt_backbone(
    backbone: Backbone, task: Task, settings: Adaptation, seed: int, progress: Callable[[str], None]
) -> None:
    """Adapt `backbone`, in place, to the training images of the first task.

    Args:
        backbone: its fake quantizers off.
        task: with at least two classes.
        settings: see there.
        seed: of weights and order.
        progress: called with a line; the first one warns where the task has few classes or images.

    Raises:
        UserError: the task has one class only, or the adapters do not fit the backbone's width.
    """
    slots, labels = np.unique(task.y_train, return_inverse=True)
    if len(slots) < 2:
        raise UserError("--adapt needs a first task of two classes or more: one class says nothing of what differs")
    if backbone.config.width % settings.experts:
        raise UserError(f"--adapt: experts={settings.experts} does not divide the width {backbone.config.width}")
    if len(slots) < FEW_CLASSES or np.bincount(labels).min() < FEW_IMAGES:
        least = np.bincount(labels).min()
        progress(
            f"warning: the first task has {len(slots)} classes and at least {least} images of each; "
            f"with fewer than {FEW_CLASSES} and {FEW_IMAGES} a backbone is easily fitted to these alone"
        )
    keras.utils.set_random_seed(seed)
    model = Adapted(backbone, len(slots), settings)
    steps = settings.epochs * -(-len(labels) // settings.batch)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - int(WARMUP * steps)), warmup_target=settings.rate, warmup_steps=int(WARMUP * steps)
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=DECAY)
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(images: Any, target: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(target, model(images), from_logits=True)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    rng = np.random.default_rng(seed)
    try:
        for _ in range(settings.epochs):
            order = rng.permutation(len(labels))
            for start in range(0, len(order), settings.batch):
                rows = np.take(order, range(start, start + settings.batch), mode="wrap")
                loss = step(task.data.images("train", task.train_rows[rows]).astype(np.float32), labels[rows])
        progress(f"backbone adapted to {len(slots)} classes of the first task: loss {float(loss):.4f}")
    finally:
        model.merge()
