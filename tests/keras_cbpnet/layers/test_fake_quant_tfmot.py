"""`FakeQuantize` against tensorflow-model-optimization's quantizers, bit by bit: values, gradients, ranges."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cbpnet.layers.fake_quant import KINDS, FakeQuantize

# Reached by a private path: the package's public one makes layers of Keras 2 only.
quantizers = pytest.importorskip("tensorflow_model_optimization.python.core.quantization.keras.quantizers")
quant_ops = pytest.importorskip("tensorflow_model_optimization.python.core.quantization.keras.quant_ops")


class Host:
    """The layer of a quantizer: makes its variables."""

    def add_weight(self, name, shape=(), initializer=None, trainable=False):
        shape = (shape,) if isinstance(shape, int) else shape or ()
        return tf.Variable(np.full(shape, initializer.value, np.float32), name=name)


class Reference:
    """What `FakeQuantize` was over the other package."""

    def __init__(self, kind, shape):
        self.kind, weight = kind, kind != "activation"
        make = quantizers.LastValueQuantizer if weight else quantizers.MovingAverageQuantizer
        self.quantizer = make(num_bits=8, per_axis=kind == "channel", symmetric=weight, narrow_range=weight)
        self.range = self.quantizer.build(list(shape), "range", Host())

    def calibrate(self, x):
        if self.kind == "activation":
            quant_ops.AllValuesQuantize(x, self.range["min_var"], self.range["max_var"])
        else:
            self.quantizer(x, True, weights=self.range)

    def __call__(self, x, training):
        return self.quantizer(x, training and self.kind == "activation", weights=self.range)


def batches(shape):
    rng = np.random.default_rng(4)
    for scale in (1.0, 9.0, 0.2, 30.0, 4.0):
        yield tf.constant((rng.normal(0.3, 1, shape) ** 3 * scale).astype(np.float32))


def with_gradient(layer, x, training):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        loss = tf.reduce_sum(y * y)
    return y, tape.gradient(loss, x)


@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 3, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_the_bit(kind, shape):
    reference, layer = Reference(kind, shape), FakeQuantize(kind)
    layer.build(shape)

    def same():
        for name in ("min_var", "max_var"):
            np.testing.assert_array_equal(layer.range[name], reference.range[name])

    same()
    seen = list(batches(shape))
    for moment in ("before calibration", "after it"):
        layer.mode = "on"
        for training in (False, True, True):
            for x in seen:
                for found, expected in zip(with_gradient(layer, x, training), with_gradient(reference, x, training)):
                    np.testing.assert_array_equal(found, expected, err_msg=moment)
                same()
        layer.mode = "calibrate"
        for x in seen[::-1]:
            layer(x)
            reference.calibrate(x)
            same()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_in_a_graph(kind):
    x = next(batches((6, 5)))
    reference, layer = Reference(kind, x.shape), FakeQuantize(kind)
    layer.build(x.shape)
    layer.mode = "on"
    run = tf.function(lambda x: layer(x, training=True))
    for _ in range(3):
        np.testing.assert_array_equal(run(x), reference(x, True))
    np.testing.assert_array_equal(layer.range["min_var"], reference.range["min_var"])
    assert keras.backend.backend() == "tensorflow"
