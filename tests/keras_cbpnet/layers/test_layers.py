"""The layers of the backbone against NumPy in float64, and what every layer owes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import numpy_vit

from keras_cbpnet.layers.encoder_block import EncoderBlock
from keras_cbpnet.layers.layer_norm import LayerNorm
from keras_cbpnet.layers.patch_embedding import PatchEmbedding
from keras_cbpnet.layers.projection import Convolution, Projection
from keras_cbpnet.models.weights import named_variables

# Dimensions: B images, N tokens, L prefix rows, D width.
B, N, L, D, HEADS, HIDDEN = 3, 6, 4, 8, 2, 12
STEM, MEAN, DEVIATION = ((4, 2), (5, 1)), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def normal(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


def without_mean(x):
    return x - np.mean(x, axis=-1, keepdims=True)


def tokens(*shape, seed=0, scale=1.0):
    """Normal values whose mean over the last axis is 0, as between the layers of the backbone."""
    return without_mean(normal(*shape, seed=seed, scale=scale).astype(np.float64)).astype(np.float32)


def weights_of(layer):
    return numpy_vit.arrays(named_variables(layer))


def assert_all_gradients(layer, variables, call):
    """The gradient of a random projection of `call()` exists and is not zero for every one of `variables`."""
    with tf.GradientTape() as tape:
        result = call()
        loss = tf.reduce_sum(result * normal(*result.shape, seed=5))
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    assert len(gradients) > 0
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.abs(gradient.numpy()).max() > 1e-6, variable.path


@pytest.fixture
def block(randomised):
    layer = EncoderBlock(D, HEADS, HIDDEN)
    layer.build((None, N, D))
    randomised(layer)
    return layer


CASES = {
    "layer_norm": (lambda q: LayerNorm(quantized=q), (N, D), (N, D)),
    "layer_norm_affine": (lambda q: LayerNorm(affine=True, epsilon=1e-5, quantized=q), (N, D), (N, D)),
    "projection": (lambda q: Projection(5, gain=0.3, quantized=q), (N, D), (N, 5)),
    "projection_centred": (lambda q: Projection(5, centred=True, quantized=q), (N, D), (N, 5)),
    "projection_of_vectors": (lambda q: Projection(5, quantized=q), (D,), (5,)),
    "encoder_block": (lambda q: EncoderBlock(D, HEADS, HIDDEN, quantized=q), (N, D), (N, D)),
}
PICTURE_CASES = {
    "convolution": (
        lambda q: Convolution(4, 3, 2, (9.0, 8.0, 7.0), (90.0, 80.0, 70.0), centred=True, quantized=q),
        (4, 4, 4),
    ),
    "patch_embedding": (lambda q: PatchEmbedding(D, 2, STEM, MEAN, DEVIATION, quantized=q), (5, D)),
    "patch_embedding_without_stem": (lambda q: PatchEmbedding(D, 4, quantized=q), (5, D)),
}


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_layer(name, quantized, checked):
    make, shape, output = CASES[name]
    checked(make(quantized), normal(B, *shape), (B, *output))


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("name", PICTURE_CASES)
def test_layer_of_pictures(name, quantized, checked):
    make, output = PICTURE_CASES[name]
    checked(make(quantized), pixels(B, 8, 8, 3), (B, *output))


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("layer_norm", "encoder_block")])
def test_gradients_of_every_weight(name, randomised):
    make, shape, _ = CASES[name]
    layer, x = make(False), normal(B, *shape)
    layer.build((None, *shape))
    randomised(layer)
    assert_all_gradients(layer, layer.trainable_variables, lambda: layer(x))


@pytest.mark.parametrize("name", PICTURE_CASES)
def test_gradients_of_every_picture_weight(name, randomised):
    layer, x = PICTURE_CASES[name][0](False), pixels(B, 8, 8, 3)
    layer.build((None, 8, 8, 3))
    randomised(layer)
    assert_all_gradients(layer, layer.trainable_variables, lambda: layer(x))


def test_gradients_of_every_block_weight_and_of_the_prefix(block):
    x, prefix = normal(B, N, D), tuple(keras.Variable(normal(B, L, D, seed=i)) for i in (1, 2))
    variables = [*block.trainable_variables, *prefix]
    assert len(block.trainable_variables) == 12
    assert_all_gradients(block, variables, lambda: block(x, prefix=[keras.ops.convert_to_tensor(p) for p in prefix]))


def test_layer_norm_without_affine_has_no_weights():
    layer = LayerNorm()
    layer.build((None, N, D))
    assert layer.weights == []


@pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0])
def test_layer_norm_of_centred_tokens_equals_keras(scale, randomised):
    x = tokens(B, N, D, scale=scale)
    ours, theirs = LayerNorm(affine=True, epsilon=1e-6), keras.layers.LayerNormalization(epsilon=1e-6)
    for layer in (ours, theirs):
        layer.build(x.shape)
    randomised(ours)
    theirs.gamma.assign(ours.scale)
    theirs.beta.assign(ours.offset)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=0, atol=1e-5)
    plain = keras.layers.LayerNormalization(epsilon=1e-6, center=False, scale=False)
    np.testing.assert_allclose(LayerNorm(epsilon=1e-6)(x), plain(x), rtol=0, atol=1e-5)


def test_projection_scales_weights_and_bias(randomised):
    layer, x = Projection(5, gain=0.3), normal(B, N, D)
    layer.build(x.shape)
    randomised(layer)
    w = weights_of(layer)
    assert np.abs(w["bias"]).min() > 0
    expected = 0.3 * (x @ w["kernel"] + w["bias"])
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=1e-5)
    centred = Projection(5, gain=0.3, centred=True)
    centred.build(x.shape)
    centred.set_weights(layer.get_weights())
    assert np.abs(expected.mean(axis=-1)).max() > 0.05
    np.testing.assert_allclose(centred(x), without_mean(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("mean", [(), (100.0, 120.0, 140.0)])
@pytest.mark.parametrize(("size", "stride", "side"), [(3, 2, 8), (3, 1, 7), (3, 2, 7), (4, 4, 8)])
def test_convolution_folds_the_normalisation(mean, size, stride, side, centred, randomised):
    deviation = (50.0, 60.0, 70.0)
    layer, x = Convolution(4, size, stride, mean, deviation, centred=centred), pixels(B, side, side, 3)
    layer.build(x.shape)
    randomised(layer)
    w, mean = weights_of(layer), np.array(mean or (0.0, 0.0, 0.0))
    # The border is the raw value 0, normalised like every pixel.
    expected = numpy_vit.convolution((x - mean) / deviation, w["kernel"], w["bias"], stride, -mean / deviation)
    expected = without_mean(expected) if centred else expected
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=1e-5)
    plain = Convolution(4, size, stride, centred=centred)
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    first = plain(((x - mean) / deviation).astype(np.float32)).numpy()
    inner = slice(1, -1) if mean.any() and size > stride else slice(None)
    np.testing.assert_allclose(layer(x).numpy()[:, inner, inner], first[:, inner, inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("stem", "patch_size"), [(STEM, 2), ((), 4)])
def test_patch_embedding_equals_numpy(stem, patch_size, randomised):
    layer, x = PatchEmbedding(D, patch_size, stem, MEAN, DEVIATION), pixels(B, 8, 8, 3)
    layer.build(x.shape)
    randomised(layer)
    assert layer.tokens == 5
    expected = numpy_vit.patch_embedding(weights_of(layer), x, stem, patch_size, MEAN, DEVIATION)
    np.testing.assert_allclose(layer(x), without_mean(expected), rtol=0, atol=1e-5)


def test_encoder_block_equals_numpy(block):
    x = tokens(B, N, D)
    expected = numpy_vit.encoder_block(weights_of(block), x.astype(np.float64), HEADS)
    assert np.abs(expected - x).max() > 0.5
    np.testing.assert_allclose(block(x), without_mean(expected), rtol=0, atol=1e-5)


def test_prefix_goes_before_keys_and_values(block):
    x, prefix = tokens(B, N, D), (normal(B, L, D, seed=1), normal(B, L, D, seed=2))
    expected = numpy_vit.encoder_block(weights_of(block), x.astype(np.float64), HEADS, prefix)
    without = numpy_vit.encoder_block(weights_of(block), x.astype(np.float64), HEADS)
    assert np.abs(expected - without).max() > 0.1
    np.testing.assert_allclose(block(x, prefix=prefix), without_mean(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("with_prefix", [False, True])
def test_class_only_equals_the_first_row(block, with_prefix):
    x = tokens(B, N, D)
    prefix = (normal(B, L, D, seed=1), normal(B, L, D, seed=2)) if with_prefix else None
    first = block(x, prefix=prefix, class_only=True).numpy()
    assert first.shape == (B, 1, D)
    np.testing.assert_allclose(first, block(x, prefix=prefix).numpy()[:, :1], rtol=0, atol=1e-6)


def test_each_image_has_its_own_prefix(block):
    x, prefix = tokens(B, N, D), [normal(B, L, D, seed=1), normal(B, L, D, seed=2)]
    before = block(x, prefix=prefix).numpy()
    for part in prefix:
        part[1] += 1
    after = block(x, prefix=prefix).numpy()
    np.testing.assert_allclose(after[[0, 2]], before[[0, 2]], rtol=0, atol=1e-6)
    assert np.abs(after[1] - before[1]).max() > 1e-2


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width 8 and heads 3"):
        EncoderBlock(8, 3, 12)
