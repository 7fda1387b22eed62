"""Calibration: the ranges of the fake quantizers, before quantization-aware training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_cbpnet.layers.fake_quant import fake_quantizers, set_mode

CALIBRATION = 512  # images of the first task that set the ranges of fake quantizers


def calibrate(model: keras.Model, forward: Callable[[Any], Any], images: np.ndarray, batch: int = 64) -> None:
    """Set the range of every fake quantizer to what `forward` makes it see, then switch them on.

    Args:
        model: with fake quantizers; a `PromptedClassifier` or a backbone alone.
        forward: called with each batch of `images`, eagerly.
        images: uint8 [N, H, W, 3].
        batch: images of a call.
    """
    for layer in fake_quantizers(model):
        layer.reset()
    set_mode(model, "calibrate")
    for start in range(0, len(images), batch):
        forward(images[start : start + batch])
    # The pixels' range is known: the device feeds 0..255 with scale 1.
    for bound, value in zip(("min_var", "max_var"), (0.0, 255.0), strict=True):
        getattr(model, "backbone", model).pixels.range[bound].assign(value)
    set_mode(model, "on")
