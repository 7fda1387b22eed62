"""What attention takes from the values, fit for int8 where there are many keys."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cbpnet.layers.fake_quant import optional

# Dimensions: B images, H heads, N queries, M keys, E width of a head.
MANY = 128  # keys; with more, the two parts
PARTS = ("fine", "coarse", "fine_context", "coarse_context")
FINE = 1 / 16  # the largest probability of the fine part


@keras.saving.register_keras_serializable("keras_cbpnet")
class Attend(keras.layers.Layer):
    """softmax(scores) v (Vaswani et al., arXiv 1706.03762).

    The int8 softmax of TFLite has steps of 1/256: of 197 keys, the mean probability is 1.3 steps. So where there are
    many keys, a quantized layer splits each probability into its part up to 1/16 and the rest, gives each part its own
    scale and adds the two products. `export.fine_softmax` lets the file compute the fine part from 16 bits.

    Args:
        quantized: whether the parts pass through int8 fake quantizers.
    """

    def __init__(self, quantized: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantized = quantized
        # Made here, so that the mode of a loaded model reaches them: it is set before the layers are built.
        self.parts: dict[str, keras.layers.Layer] = {}
        if quantized:
            self.parts = {name: optional(True, name=name) for name in PARTS}

    def build(self, input_shape: Any, values_shape: Any = None) -> None:
        """Build for scores of shape [B, H, N, M]; the number of keys decides."""
        if input_shape[-1] <= MANY:
            self.parts.clear()
        for part in self.parts.values():
            part.build(input_shape)
        self.built = True

    def call(self, inputs: Any, values: Any, training: bool = False) -> Any:
        """Return float32 [B, H, N, E] for scores [B, H, N, M] and values [B, H, M, E]."""
        probability = ops.softmax(inputs)  # (B, H, N, M)
        fine = self.parts.get("fine")
        if fine is None or (fine.mode == "off" and fine.watch is None):  # who watches compares both modes part by part
            return ops.matmul(probability, values)

        def at(name: str, x: Any) -> Any:
            return self.parts[name](x, training=training)

        coarse = at("coarse", ops.relu(probability - FINE))
        parts = {"fine": at("fine", probability - coarse), "coarse": coarse}
        products = (at(f"{name}_context", ops.matmul(x, values)) for name, x in parts.items())
        return sum(products)

    @property
    def islands(self) -> list[keras.layers.Layer]:
        """See `layers.islands`."""
        return list(self.parts.values())

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "quantized": self.quantized}
