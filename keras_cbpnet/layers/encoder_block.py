"""A pre-norm Vision Transformer encoder block that takes prefixes for its keys and values."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cbpnet.layers.attend import Attend
from keras_cbpnet.layers.fake_quant import GATE_FLOOR, GELU_FLOOR, optional
from keras_cbpnet.layers.layer_norm import LayerNorm
from keras_cbpnet.layers.projection import Projection

# Dimensions: B images, N tokens, L prefix rows, M = L + N, H heads, D width, F hidden units of the MLP.
QUICK_GELU = 1.702


@keras.saving.register_keras_serializable("keras_cbpnet")
class EncoderBlock(keras.layers.Layer):
    """x + attention(norm(x)), then x + mlp(norm(x)) (Dosovitskiy et al., arXiv 2010.11929).

    The activation `quick_gelu` is x * sigmoid(1.702 x): TFLM has no GELU. Its factor is the gain of the MLP's first
    layer, undone by the input gain of the second, so that the device computes y * sigmoid(y) alone. Tokens have mean 0
    over D.

    Args:
        width: D.
        heads: H.
        mlp_width: F.
        activation: `quick_gelu` or the exact `gelu`.
        quantized: whether weights and activations pass through int8 fake quantizers.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        activation: str = "quick_gelu",
        quantized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if width % heads:
            raise ValueError(f"heads must divide width, got width {width} and heads {heads}")
        self.width = width
        self.heads = heads
        self.mlp_width = mlp_width
        self.activation = activation
        self.quantized = quantized
        q: dict[str, Any] = {"quantized": quantized}
        gain = QUICK_GELU if activation == "quick_gelu" else 1.0
        self.norm1 = LayerNorm(name="norm1", **q)
        self.query = Projection(width, gain=(width // heads) ** -0.5, name="query", **q)
        self.key = Projection(width, name="key", **q)
        self.value = Projection(width, name="value", **q)
        self.attend = Attend(name="attend", **q)
        self.output_projection = Projection(width, centred=True, name="output", **q)
        self.norm2 = LayerNorm(name="norm2", **q)
        self.expand = Projection(mlp_width, gain=gain, name="expand", **q)
        self.contract = Projection(width, input_gain=1 / gain, centred=True, name="contract", **q)
        places = ("query", "key", "value", "scores", "context", "attended", "sum1", "expanded", "gated", "mlp", "sum2")
        floor = {"expanded": GATE_FLOOR if activation == "quick_gelu" else GELU_FLOOR}
        self.adapt: tuple[Any, Any] | None = None  # what follows the norms while a backbone is adapted
        self.at = {place: optional(quantized, name=f"at_{place}", floor=floor.get(place)) for place in places}

    def build(self, input_shape: Any) -> None:
        wide = (*input_shape[:-1], self.mlp_width)
        for layer in (self.norm1, self.query, self.key, self.value, self.output_projection, self.norm2, self.expand):
            layer.build(input_shape)
        self.contract.build(wide)
        self.attend.build((input_shape[0], self.heads, input_shape[1], input_shape[1]))
        for place, layer in self.at.items():
            layer.build(wide if place in ("expanded", "gated") else input_shape)

    def _split(self, x: Any) -> Any:
        x = ops.reshape(x, (-1, x.shape[1], self.heads, self.width // self.heads))  # (B, N, H, D/H)
        return ops.transpose(x, (0, 2, 1, 3))  # (B, H, N, D/H)

    def call(
        self, inputs: Any, prefix: tuple[Any, Any] | None = None, class_only: bool = False, training: bool = False
    ) -> Any:
        """Encode the tokens.

        Args:
            inputs: float32 [B, N, D].
            prefix: two tensors [B, L, D] put before the keys and the values (Li and Liang, arXiv 2101.00190).
            class_only: whether only the class token is wanted, as after the last block.
            training: whether the fake quantizers follow the ranges they see.

        Returns:
            float32 [B, N, D], or [B, 1, D] with `class_only`.
        """
        x = self.attention(inputs, prefix, class_only, training)
        y = self.at["mlp"](self.contract(self.hidden(x, training)), training=training)
        return self.at["sum2"](x + y, training=training)

    def attention(
        self, inputs: Any, prefix: tuple[Any, Any] | None = None, class_only: bool = False, training: bool = False
    ) -> Any:
        """Return the sum of the tokens and what attention adds, the first half of `call`; arguments as there."""

        def at(place: str, x: Any) -> Any:
            return self.at[place](x, training=training)

        x = self._adapted(0, self.norm1(inputs, training=training))  # (B, N, D)
        k, v = self.key(x), self.value(x)  # (B, N, D)
        if class_only:
            inputs, x = inputs[:, :1], x[:, :1]  # (B, 1, D)
        q = self.query(x)
        if prefix is not None:
            k = ops.concatenate([prefix[0], k], axis=1)  # (B, M, D)
            v = ops.concatenate([prefix[1], v], axis=1)  # (B, M, D)
        q, k, v = self._split(at("query", q)), self._split(at("key", k)), self._split(at("value", v))
        scores = at("scores", ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))))  # (B, H, N, M)
        x = at("context", self.attend(scores, v, training=training))  # (B, H, N, D/H)
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, inputs.shape[1], self.width))  # (B, N, D)
        return at("sum1", inputs + at("attended", self.output_projection(x)))

    def _adapted(self, place: int, x: Any) -> Any:
        return x if self.adapt is None else self.adapt[place](x)

    def hidden(self, x: Any, training: bool = False) -> Any:
        """Return the hidden units of the MLP, float32 [B, N, F], for what `attention` gives."""
        x = self._adapted(1, self.norm2(x, training=training))
        y = self.at["expanded"](self.expand(x), training=training)  # (B, N, F)
        gated = y * ops.sigmoid(y) if self.activation == "quick_gelu" else ops.gelu(y, approximate=False)
        return self.at["gated"](gated, training=training)

    @property
    def islands(self) -> list[keras.layers.Layer]:
        """See `layers.islands`."""
        return [self.at[place] for place in ("scores", "sum1", "sum2")]

    def get_config(self) -> dict[str, Any]:
        names = ("width", "heads", "mlp_width", "activation", "quantized")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
