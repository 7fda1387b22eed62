"""Fake quantization: tensorflow-model-optimization's quantizers in a Keras 3 layer.

Every place of the backbone that becomes an int8 tensor holds one `FakeQuantize`. It is the identity until its `mode` is
set: `calibrate` records ranges, `on` rounds to int8 with a straight-through gradient.
The scheme is TFLite's: activations asymmetric per tensor, weights symmetric (Jacob et al., arXiv 1712.05877).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

KINDS = ("activation", "weight", "channel")
GATE_FLOOR = -8.0  # x * sigmoid(x) is above -0.003 below it, so no int8 step need go to what lies there
GELU_FLOOR = -3.5  # the same of the exact GELU, above -0.001


class _Host:
    """What a tfmot quantizer asks of its layer: an `add_weight` that makes the Keras 3 layer's variable."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        self.layer = layer

    def add_weight(self, name: str, shape: Any = (), initializer: Any = None, trainable: bool = False) -> Any:
        shape = (shape,) if isinstance(shape, int) else shape or ()
        start = keras.initializers.Constant(initializer.value)  # tfmot hands over a tf-keras Constant
        return self.layer.add_weight(name=name, shape=shape, initializer=start, trainable=trainable)


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
        from tensorflow_model_optimization.python.core.quantization.keras import quantizers as tfmot

        # Weights are frozen, so the last value of their range is the value.
        make = tfmot.MovingAverageQuantizer if self.kind == "activation" else tfmot.LastValueQuantizer
        weight = self.kind != "activation"
        self.quantizer = make(num_bits=8, per_axis=self.kind == "channel", symmetric=weight, narrow_range=weight)
        self.range = self.quantizer.build(list(input_shape), "range", _Host(self))

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
        import tensorflow as tf
        from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

        x = tf.convert_to_tensor(inputs)
        if self.floor is not None and (training or self.mode == "calibrate"):
            x = tf.maximum(x, self.floor)  # only where ranges are taken: the device clips by the range alone
        variables = {name: variable.value for name, variable in self.range.items()}
        if self.mode == "on":
            return self.quantizer(x, bool(training) and self.kind == "activation", weights=variables)
        if self.kind == "activation":
            quant_ops.AllValuesQuantize(x, variables["min_var"], variables["max_var"])
        else:
            self.quantizer(x, True, weights=variables)
        return inputs

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
