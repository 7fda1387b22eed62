"""Dense and convolutional layers whose constants are folded into their weights, which may be fake-quantized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_cbpnet.layers.fake_quant import optional
from keras_cbpnet.layers.orepa import OREPA


def without_mean(x: Any) -> Any:
    """Return `x` less its mean over the last axis."""
    return x - ops.mean(x, axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("keras_cbpnet")
class Projection(keras.layers.Layer):
    """y = gain * (input_gain * x W + b), both gains folded into the weights, so that they cost nothing on the device.

    Args:
        units: size of the last axis of the result.
        gain: constant factor on the result.
        input_gain: constant factor on the input.
        centred: whether the mean over the units is taken from W and b, so that every row of the result has mean 0.
        kernel: initializer of W.
        quantized: whether the folded weights pass through an int8 fake quantizer.
    """

    def __init__(
        self,
        units: int,
        gain: float = 1.0,
        input_gain: float = 1.0,
        centred: bool = False,
        kernel: str = "glorot_uniform",
        quantized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.initializer = kernel
        self.gain = gain
        self.input_gain = input_gain
        self.centred = centred
        self.quantized = quantized
        self.quantizer = optional(quantized, "weight", name="kernel_quantizer")

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.initializer)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.quantizer.build(shape)

    def call(self, inputs: Any) -> Any:
        # In two dimensions, so that the bias is fused into FULLY_CONNECTED instead of added after a reshape.
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        kernel, bias = self.kernel * (self.gain * self.input_gain), self.bias * self.gain
        if self.centred:
            kernel, bias = without_mean(kernel), without_mean(bias)
        rows = ops.matmul(rows, self.quantizer(kernel)) + bias
        return ops.reshape(rows, (-1, *inputs.shape[1:-1], self.units))

    def get_config(self) -> dict[str, Any]:
        names = ("units", "gain", "input_gain", "centred", "quantized")
        values = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **values, "kernel": self.initializer}


@keras.saving.register_keras_serializable("keras_cbpnet")
class Convolution(keras.layers.Layer):
    """Strided convolution of (x - mean) / deviation, both folded into kernel and bias; `same` padding with x = 0.

    Args:
        filters: output channels.
        kernel_size: height and width of the kernel, pixels.
        strides: step of the kernel, pixels.
        mean: of every input channel, in the input's unit; empty for 0.
        deviation: of every input channel, in the input's unit; empty for 1.
        centred: whether the mean over the filters is taken from kernel and bias, so that every pixel of the result has
            mean 0.
        quantized: whether the folded kernel passes through a per-channel int8 fake quantizer.
        branched: whether the kernel is one branch of several during training, see `layers.orepa`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int,
        mean: Sequence[float] = (),
        deviation: Sequence[float] = (),
        centred: bool = False,
        quantized: bool = False,
        branched: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.mean = tuple(mean)
        self.deviation = tuple(deviation)
        self.centred = centred
        self.quantized = quantized
        self.quantizer = optional(quantized, "channel", name="kernel_quantizer")
        self.branches = OREPA(name="branches") if branched else None

    def build(self, input_shape: Any) -> None:
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="he_normal")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.quantizer.build(shape)
        if self.branches is not None:
            self.branches.build(shape)
            self.branches.start(self.kernel)

    def effective_kernel(self) -> Any:
        """Return the kernel [k, k, i, o] that is convolved with, all branches together, before anything is folded."""
        kernel = ops.convert_to_tensor(self.kernel)
        return kernel if self.branches is None else self.branches(kernel)

    def call(self, inputs: Any) -> Any:
        kernel, bias = self.effective_kernel(), ops.convert_to_tensor(self.bias)
        if self.deviation:
            kernel = kernel / ops.reshape(ops.convert_to_tensor(self.deviation, "float32"), (1, 1, -1, 1))
        if any(self.mean):
            mean = ops.reshape(ops.convert_to_tensor(self.mean, "float32"), (1, 1, -1, 1))
            bias = bias - ops.sum(kernel * mean, axis=(0, 1, 2))
        if self.centred:
            kernel, bias = without_mean(kernel), without_mean(bias)
        return ops.conv(inputs, self.quantizer(kernel), strides=self.strides, padding="same") + bias

    def get_config(self) -> dict[str, Any]:
        names = ("filters", "kernel_size", "strides", "mean", "deviation", "centred", "quantized")
        return {
            **super().get_config(),
            "branched": self.branches is not None,
            **{name: getattr(self, name) for name in names},
        }
