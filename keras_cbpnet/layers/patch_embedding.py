"""Images to tokens: a convolutional stem, a strided convolution, a class token, registers and positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_cbpnet.layers.fake_quant import GATE_FLOOR, optional
from keras_cbpnet.layers.projection import Convolution, without_mean

# Dimensions: B images, H x W pixels, P patches, R registers, N = 1 + R + P tokens, D width.


@keras.saving.register_keras_serializable("keras_cbpnet")
class PatchEmbedding(keras.layers.Layer):
    """Cut an image into patches, embed each, prepend the class token, add position embeddings.

    A stem of 3x3 convolutions (Xiao et al., arXiv 2106.14881) makes a small ViT learn faster from few images.

    Args:
        width: D.
        patch_size: step of the embedding, in pixels of its input; its kernel is 3x3 after a stem, else `patch_size`.
        stem: (filters, stride) of each 3x3 convolution before it.
        mean: of the pixels, per channel, in 0..1.
        deviation: of the pixels, per channel, in 0..1.
        registers: R, learned tokens without a position between the class token and the patches.
        quantized: whether weights and activations pass through int8 fake quantizers.
        branched: whether the kernels of 3x3 are trained as sums of branches, see `layers.orepa`.
    """

    def __init__(
        self,
        width: int,
        patch_size: int,
        stem: Sequence[Sequence[int]] = (),
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        deviation: Sequence[float] = (1.0, 1.0, 1.0),
        registers: int = 0,
        quantized: bool = False,
        branched: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.patch_size = patch_size
        self.stem = tuple(tuple(pair) for pair in stem)
        self.mean = tuple(mean)
        self.deviation = tuple(deviation)
        self.registers = registers
        self.quantized = quantized
        self.branched = branched
        shapes = [(filters, 3, stride) for filters, stride in self.stem]
        shapes.append((width, 3 if self.stem else patch_size, patch_size))
        pixels: dict[str, Any] = {"mean": [255 * m for m in mean], "deviation": [255 * s for s in deviation]}
        self.convolutions = [
            Convolution(
                *shape,
                **(pixels if i == 0 else {}),
                centred=i == len(self.stem),
                quantized=quantized,
                branched=branched and shape[1] == 3,
                name=f"convolution_{i}",
            )
            for i, shape in enumerate(shapes)
        ]
        gates = [GATE_FLOOR] * len(self.stem) + [None]
        self.convolved = [optional(quantized, name=f"convolved_{i}", floor=floor) for i, floor in enumerate(gates)]
        self.gated = [optional(quantized, name=f"gated_{i}") for i in range(len(self.stem))]
        self.sum = optional(quantized, name="sum")

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        for i, convolution in enumerate(self.convolutions):
            convolution.build(shape)
            shape = (shape[0], -(-shape[1] // convolution.strides), -(-shape[2] // convolution.strides))
            shape = (*shape, convolution.filters)
            for layer in (self.convolved[i], *self.gated[i : i + 1]):
                layer.build(shape)
        patches = shape[1] * shape[2]
        self.tokens = 1 + self.registers + patches
        normal = keras.initializers.TruncatedNormal(stddev=0.02)
        self.class_token = self.add_weight(name="class_token", shape=(1, 1, self.width), initializer=normal)
        self.position = self.add_weight(name="position", shape=(1, 1 + patches, self.width), initializer=normal)
        if self.registers:
            extra = (1, self.registers, self.width)
            self.register_tokens = self.add_weight(name="register_tokens", shape=extra, initializer=normal)
        self.sum.build((shape[0], self.tokens, self.width))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Embed raw pixels 0..255, float32 [B, H, W, 3], as tokens, float32 [B, N, D], each with mean 0."""
        x = inputs
        for i, convolution in enumerate(self.convolutions):
            x = self.convolved[i](convolution(x), training=training)
            if i < len(self.stem):
                x = self.gated[i](x * ops.sigmoid(x), training=training)
        x = ops.reshape(x, (-1, self.tokens - 1 - self.registers, self.width))  # (B, P, D)
        # Each token gets its own constant: one addition, no broadcast class token on the device.
        position = without_mean(self.position + 0.0)
        first = without_mean(self.class_token + self.position[:, :1])  # (1, 1, D)
        if self.registers:
            first = ops.concatenate([first, without_mean(self.register_tokens + 0.0)], axis=1)  # (1, 1 + R, D)
        x = x + position[:, 1:]
        first = ops.broadcast_to(first, (ops.shape(x)[0], 1 + self.registers, self.width))
        return self.sum(ops.concatenate([first, x], axis=1), training=training)

    @property
    def islands(self) -> list[keras.layers.Layer]:
        """See `layers.islands`."""
        return [self.sum]

    def get_config(self) -> dict[str, Any]:
        names = ("width", "patch_size", "stem", "mean", "deviation", "registers", "quantized", "branched")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
