"""Fake quantization and quantization-aware training: the int8 grid, the ranges, the modes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cbpnet.layers.fake_quant import KINDS, FakeQuantize, optional, set_mode
from keras_cbpnet.layers.projection import Convolution, Projection

# Dimensions: B images, D width.


def quantizer(kind, shape):
    layer = FakeQuantize(kind)
    layer.build(shape)
    layer.reset()
    return layer


def calibrated(kind, x):
    layer = quantizer(kind, x.shape)
    layer.mode = "calibrate"
    layer(x)
    layer.mode = "on"
    return layer


def bounds(layer):
    return tuple(np.array(layer.range[name].numpy()) for name in ("min_var", "max_var"))


def skewed(*shape, seed=0):
    """Values from about -1 to 4."""
    return (np.random.default_rng(seed).normal(size=shape) ** 2 - 1).astype(np.float32).clip(-0.9, 4)


# One quantizer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize("kind", KINDS)
def test_fake_quantize_layer(kind, mode, checked):
    x = skewed(3, 5, 4) if kind == "activation" else skewed(3, 4)
    layer = FakeQuantize(kind)
    layer.build((None, *x.shape[1:]))
    if mode == "off":
        np.testing.assert_array_equal(checked(layer, x, x.shape), x)
    else:
        layer.mode = "on"
        assert layer(x).shape == x.shape
        for i in range(len(x)):
            np.testing.assert_array_equal(layer(x[i : i + 1])[0], layer(x)[i])
    assert layer.trainable_variables == []


@pytest.mark.parametrize("mode", ["off", "calibrate"])
@pytest.mark.parametrize("kind", KINDS)
def test_off_and_calibrate_are_the_identity_bit_by_bit(kind, mode):
    x = skewed(6, 4) * np.float32(1e-3)
    layer = quantizer(kind, x.shape)
    layer.mode = mode
    before = bounds(layer)
    for training in (False, True):
        np.testing.assert_array_equal(np.asarray(layer(x, training=training)).view(np.int32), x.view(np.int32))
    assert np.any(bounds(layer)[1] != before[1]) == (mode == "calibrate")


def test_calibration_widens_the_range_to_all_that_it_sees():
    layer = quantizer("activation", (None, 4))
    layer.mode = "calibrate"
    batches = [skewed(9, 4, seed=seed) * (seed + 1) for seed in range(3)]
    for batch in batches[::-1]:
        layer(batch)
    low, high = bounds(layer)
    assert (low, high) == (min(b.min() for b in batches), max(b.max() for b in batches))
    layer.reset()
    assert bounds(layer) == (0, 0)


@pytest.mark.parametrize("shift", [3.0, -6.0])
def test_the_range_always_holds_zero(shift):
    x = skewed(9, 4) + np.float32(shift)
    low, high = bounds(calibrated("activation", x))
    assert (low, high) == (min(x.min(), 0), max(x.max(), 0))


def test_activations_fall_on_256_levels_with_zero_among_them():
    x = skewed(200, 4)
    layer = calibrated("activation", x)
    low, high = bounds(layer)
    scale = (float(high) - float(low)) / 255
    zero_point = round(-float(low) / scale)
    found = layer(x).numpy()
    quanta = found / scale + zero_point
    np.testing.assert_allclose(quanta, np.round(quanta), rtol=0, atol=1e-3)
    assert (np.round(quanta).min(), np.round(quanta).max()) == (0, 255)
    assert np.abs(found - x).max() <= scale / 2 * 1.001
    assert np.abs(found - x).max() > scale / 3
    assert layer(np.zeros((1, 4), np.float32)).numpy().max() == 0
    outside = layer(np.full((1, 4), 100, np.float32)).numpy()
    assert abs(outside[0, 0] - high) <= scale / 2 * 1.001


@pytest.mark.parametrize("kind", ["weight", "channel"])
def test_weights_are_symmetric_in_a_narrow_range(kind):
    w = skewed(50, 4) * np.float32([1, 10, 0.1, 3])
    layer = calibrated(kind, w)
    low, high = bounds(layer)
    largest = np.abs(w).max(axis=0) if kind == "channel" else np.abs(w).max()
    np.testing.assert_array_equal(low, -high)
    np.testing.assert_allclose(high, largest, rtol=1e-6)
    scale = largest / 127
    quanta = layer(w).numpy() / scale
    np.testing.assert_allclose(quanta, np.round(quanta), rtol=0, atol=1e-3)
    assert np.abs(np.round(quanta)).max() == 127  # -128 is never used
    assert np.all(np.abs(layer(w).numpy() - w) <= scale / 2 * 1.001)


def test_a_convolutions_kernel_has_a_range_for_each_filter():
    kernel = skewed(3, 3, 2, 5) * np.arange(1, 6, dtype=np.float32)
    low, high = bounds(calibrated("channel", kernel))
    np.testing.assert_allclose(high, np.abs(kernel).max(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(low, -high)


def test_an_activations_range_follows_in_training_only():
    x = skewed(50, 4)
    layer = calibrated("activation", x)
    before = bounds(layer)
    layer(2 * x, training=False)
    assert bounds(layer) == before
    layer(2 * x, training=True)
    expected = [np.float32(0.999) * b + np.float32(0.001) * 2 * b for b in before]
    np.testing.assert_allclose(bounds(layer), expected, rtol=1e-6)
    assert bounds(layer)[1] > before[1]


@pytest.mark.parametrize("kind", ["weight", "channel"])
def test_a_weights_range_never_follows(kind):
    w = skewed(50, 4)
    layer = calibrated(kind, w)
    before = bounds(layer)
    for training in (False, True):
        layer(2 * w, training=training)
        np.testing.assert_array_equal(bounds(layer), before)


def test_off_never_moves_a_range():
    x = skewed(9, 4)
    layer = calibrated("activation", x)
    before, layer.mode = bounds(layer), "off"
    layer(3 * x, training=True)
    assert bounds(layer) == before


def test_the_gradient_goes_straight_through_inside_the_range():
    layer = calibrated("activation", skewed(50, 4))
    x = tf.constant([[-5.0, 0.01, 3.0, 50.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) * [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(tape.gradient(loss, x), [[0, 2, 3, 0]])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"kind must be one of .* got 'bias'"):
        FakeQuantize("bias")


def test_optional_is_the_identity_where_nothing_is_quantized():
    assert isinstance(optional(False), keras.layers.Identity)
    assert optional(True, "channel", name="at").get_config()["kind"] == "channel"
    assert optional(True, name="at").name == "at"


@pytest.mark.parametrize(
    ("layer", "shape", "kind"),
    [(Projection(5, gain=0.5, quantized=True), (None, 4), "weight"),
     (Convolution(5, 3, 1, (9.0, 9.0), (50.0, 60.0), quantized=True), (None, 6, 6, 2), "channel")],
)  # fmt: skip
def test_the_folded_weights_are_what_is_quantized(layer, shape, kind, randomised):
    layer.build(shape)
    randomised(layer)
    assert layer.quantizer.kind == kind
    layer.quantizer.reset()
    set_mode(layer, "calibrate")
    layer(np.zeros((1, *shape[1:]), np.float32))
    kernel = layer.kernel.numpy()
    folded = kernel * 0.5 if kind == "weight" else kernel / np.reshape([50.0, 60.0], (1, 1, 2, 1))
    largest = np.abs(folded).max() if kind == "weight" else np.abs(folded).max(axis=(0, 1, 2))
    np.testing.assert_allclose(bounds(layer.quantizer)[1], largest, rtol=1e-6)


def test_a_floor_bounds_the_range_and_not_the_graph():
    x = np.linspace(-20, 4, 97).astype(np.float32)[None]
    layer = FakeQuantize(floor=-8.0)
    layer.build(x.shape)
    layer.reset()
    layer.mode = "calibrate"
    np.testing.assert_array_equal(layer(x), x)
    assert float(layer.range["min_var"].value) == -8.0
    assert float(layer.range["max_var"].value) == 4.0
    layer.mode = "on"
    for training in (False, True):  # in training the moving average would follow to -20
        y = np.asarray(layer(x, training=training))
        np.testing.assert_allclose(y, np.maximum(x, -8), atol=12 / 255)
        assert float(layer.range["min_var"].value) >= -8.01
    gated = x / (1 + np.exp(-x))
    assert np.abs(np.maximum(x, -8) / (1 + np.exp(-np.maximum(x, -8))) - gated).max() < 3e-3
    graph = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec(x.shape)).graph
    assert not [op for op in graph.get_operations() if op.type == "Maximum"]
