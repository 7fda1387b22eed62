"""Layer normalization of tokens whose mean is 0 by construction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_cbpnet.layers.fake_quant import optional


@keras.saving.register_keras_serializable("keras_cbpnet")
class LayerNorm(keras.layers.Layer):
    """x / sqrt(mean(x^2) + epsilon) over the last axis, for x of mean 0 (Ba et al., arXiv 1607.06450).

    Everything that is added into the tokens has mean 0 here (`centred` in `Projection`), which makes no difference to
    layer normalization; so two of its six passes fall away on the device, with their int8 rounding. Where a dense layer
    follows, `affine=False` leaves scale and offset to its weights and saves two more.

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
        self.quantizer = optional(quantized, name="quantizer")
        self.plain = False  # see `plain_sums`

    def build(self, input_shape: Any) -> None:
        if self.affine:
            self.scale = self.add_weight(name="scale", shape=input_shape[-1:], initializer="ones")
            self.offset = self.add_weight(name="offset", shape=input_shape[-1:], initializer="zeros")
        self.quantizer.build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.plain:
            square = ops.sum(inputs * inputs, axis=-1, keepdims=True)  # (..., 1)
        else:  # A matrix product sums in 32 bits; an int8 tensor of squares would lose all but the largest of them.
            square = ops.squeeze(ops.matmul(ops.expand_dims(inputs, -2), ops.expand_dims(inputs, -1)), -1)
        x = inputs * ops.rsqrt(square * (1.0 / inputs.shape[-1]) + self.epsilon)
        if self.affine:
            x = x * self.scale + self.offset
        return self.quantizer(x, training=training)

    def get_config(self) -> dict[str, Any]:
        names = ("affine", "epsilon", "quantized")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@contextmanager
def plain_sums(model: keras.layers.Layer) -> Iterator[None]:
    """Within this context the sums of squares of `model` are sums, for files in which activations are float32.

    Such a file takes two thirds of the time: a float kernel packs a matrix of one column into 32 of them.
    """
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, LayerNorm)]
    before = [norm.plain for norm in norms]
    for norm in norms:
        norm.plain = True
    try:
        yield
    finally:
        for norm, plain in zip(norms, before, strict=True):
            norm.plain = plain
