"""Fake quantization: Keras' own operation, and the ranges that it takes.

Every place of the backbone that becomes an int8 tensor holds one `FakeQuantize`. It is the identity until its `mode` is
set: `calibrate` records ranges, `on` rounds to int8 with a straight-through gradient.
The scheme is TFLite's: activations asymmetric per tensor, weights symmetric (Jacob et al., arXiv 1712.05877). Values
and ranges are those of tensorflow-model-optimization's quantizers, which tests hold them to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_cbpnet.layers.shared_batch import largest

KINDS = ("activation", "weight", "channel")
GATE_FLOOR = -8.0  # x * sigmoid(x) is above -0.003 below it, so no int8 step need go to what lies there
GELU_FLOOR = -3.5  # the same of the exact GELU, above -0.001
START = 6.0  # a range before anything was seen: from -START to START
DECAY = 0.999  # of the moving average of an activation's range


@keras.saving.register_keras_serializable("keras_cbpnet")
class FakeQuantize(keras.layers.Layer):
    """Round a tensor to 8 bits and back; the shape does not change.

    Args:
        kind: `activation` (asymmetric, moving average of the range), `weight` (symmetric, one range) or `channel`
            (symmetric, one range for each index of the last axis).
        floor: no range of an activation reaches below it; None where all values count.

    `watch`, None or a function, is called with every input and output, as an analysis needs them.
    Its `mode`, see `set_mode`: `off` (identity), `calibrate` (identity that widens the range to what it sees) or `on`.
    """

    def __init__(self, kind: str = "activation", floor: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
        self.kind = kind
        self.floor = floor
        self.mode = "off"
        self.watch: Callable[[Any, Any], None] | None = None

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1],) if self.kind == "channel" else ()
        self.range = {
            f"{end}_var": self.add_weight(name=f"range_{end}", shape=shape, initializer=start, trainable=False)
            for end, start in (
                ("min", keras.initializers.Constant(-START)),
                ("max", keras.initializers.Constant(START)),
            )
        }

    def reset(self) -> None:
        """Empty the range, before a calibration."""
        for variable in self.range.values():
            variable.assign(keras.ops.zeros_like(variable))

    def call(self, inputs: Any, training: bool = False) -> Any:
        outputs = self._quantized(inputs, training)
        if self.watch is not None:
            self.watch(inputs, outputs)
        return outputs

    def _quantized(self, inputs: Any, training: bool) -> Any:
        if self.mode == "off":
            return inputs
        activation = self.kind == "activation"
        low, high = self.range["min_var"], self.range["max_var"]
        x = inputs
        if self.floor is not None and (training or self.mode == "calibrate"):
            x = ops.maximum(x, self.floor)  # only where ranges are taken: the device clips by the range alone
        if self.mode == "calibrate":
            least, most = self._extent(x)
            low.assign(ops.minimum(low, least) if activation else least)
            high.assign(ops.maximum(high, most) if activation else most)
            return inputs
        if training and activation:
            least, greatest = self._extent(x)
            for bound, seen in ((low, -largest(-least)), (high, largest(greatest))):
                bound.assign(bound - (bound - seen) * (1.0 - DECAY))
        return keras.quantizers.fake_quant_with_min_max_vars(
            x, low, high, num_bits=8, narrow_range=not activation, axis=-1 if self.kind == "channel" else None
        )

    def _extent(self, x: Any) -> tuple[Any, Any]:
        """Return the ends of the range that holds `x` and zero; of a weight it is symmetric."""
        axes = tuple(range(len(x.shape) - 1)) if self.kind == "channel" else None
        least, most = ops.min(x, axis=axes), ops.max(x, axis=axes)
        if self.kind == "activation":
            return ops.minimum(least, 0.0), ops.maximum(most, 0.0)
        return ops.minimum(least, -most), ops.maximum(most, -least)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind, "floor": self.floor}


def fake_quantizers(model: keras.layers.Layer) -> Iterator[FakeQuantize]:
    """Yield every `FakeQuantize` inside `model`."""
    for layer in model._flatten_layers():
        if isinstance(layer, FakeQuantize):
            yield layer


def get_mode(model: keras.layers.Layer) -> str:
    """Return the mode of the fake quantizers of `model`, `off` where it has none."""
    return next((layer.mode for layer in fake_quantizers(model)), "off")


def set_mode(model: keras.layers.Layer, mode: str) -> None:
    """Set every fake quantizer of `model`; functions that Keras compiled before are dropped, for they hold the old."""
    for layer in fake_quantizers(model):
        layer.mode = mode
    for name in ("train_function", "test_function", "predict_function"):
        if hasattr(model, name):
            setattr(model, name, None)


@contextmanager
def float32(model: keras.layers.Layer) -> Iterator[None]:
    """Within this context the fake quantizers of `model` are off."""
    mode = get_mode(model)
    set_mode(model, "off")
    try:
        yield
    finally:
        set_mode(model, mode)


def optional(
    quantized: bool, kind: str = "activation", name: str | None = None, floor: float | None = None
) -> keras.layers.Layer:
    """Return a `FakeQuantize`, or the identity where the model is not `quantized`."""
    return FakeQuantize(kind, floor, name=name) if quantized else keras.layers.Identity(name=name)
