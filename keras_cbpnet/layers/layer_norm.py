"""Layer normalization in the order of operations that int8 keeps best."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cbpnet.layers.fake_quant import optional


@keras.saving.register_keras_serializable("keras_cbpnet")
class LayerNorm(keras.layers.Layer):
    """(x - mean) / sqrt(variance + epsilon) over the last axis (Ba et al., arXiv 1607.06450).

    Keras' own layer computes x * r - mean * r, two large int8 tensors whose difference is wanted. Where a dense layer
    follows, `affine=False` leaves scale and offset to its weights and saves two elementwise passes on the device.

    Args:
        affine: whether a trained scale and offset follow.
        epsilon: added to the variance.
        quantized: whether the result is fake-quantized.
    """

    def __init__(self, affine: bool = False, epsilon: float = 1e-6, quantized: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.affine = affine
        self.epsilon = epsilon
        self.quantized = quantized
        self.centred = optional(quantized, name="centred")
        self.quantizer = optional(quantized, name="quantizer")

    def build(self, input_shape: Any) -> None:
        if self.affine:
            self.scale = self.add_weight(name="scale", shape=input_shape[-1:], initializer="ones")
            self.offset = self.add_weight(name="offset", shape=input_shape[-1:], initializer="zeros")
        self.centred.build(input_shape)
        self.quantizer.build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        x = self.centred(x, training=training)
        x = x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        if self.affine:
            x = x * self.scale + self.offset
        return self.quantizer(x, training=training)

    def get_config(self) -> dict[str, Any]:
        names = ("affine", "epsilon", "quantized")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
