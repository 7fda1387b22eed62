"""The Vision Transformer as a whole: against NumPy, its weights file, its presets, its augmented images."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers import numpy_vit
from PIL import Image

import keras_cbpnet
from keras_cbpnet.config import BackboneConfig, PromptConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.weights import load_weights, named_variables, save_weights
from keras_cbpnet.presets import PRESETS, get_preset

# Dimensions: B images, N tokens, L prefix rows, D width.
B, L = 3, 2


@pytest.fixture(scope="module")
def backbone(tiny_backbone, randomised):
    config = BackboneConfig(**{**tiny_backbone.to_dict(), "mean": (0.4, 0.5, 0.6), "deviation": (0.2, 0.3, 0.25)})
    model = Backbone(config, name="backbone")
    model.build()
    randomised(model)
    return model


@pytest.fixture(scope="module")
def images(coloured_images):
    return coloured_images(B, [0, 1, 2])[0]


def numpy_backbone(model, images, prefixes=None):
    c, weights = model.config, numpy_vit.arrays(named_variables(model))
    embedding = numpy_vit.below(weights, "embedding/")
    x = numpy_vit.patch_embedding(embedding, images.astype(np.float64), c.stem, c.patch_size, c.mean, c.deviation)
    for i in range(c.depth):
        block = numpy_vit.below(weights, f"block_{i}/")
        x = numpy_vit.encoder_block(block, x, c.heads, (prefixes or {}).get(i))
    return numpy_vit.layer_norm(x[:, 0]) * weights["norm/scale"] + weights["norm/offset"]


@pytest.mark.slow
@pytest.mark.parametrize("quantized", [False, True])
def test_backbone_model(quantized, tiny_backbone, images, checked):
    layer = Backbone(tiny_backbone, quantized=quantized, name="backbone")
    layer.build()
    features = checked(layer, layer.preprocess(images), (B, 16))
    assert features.dtype == np.float32


def test_backbone_equals_numpy(backbone, images):
    expected = numpy_backbone(backbone, images)
    np.testing.assert_allclose(backbone.features(images), expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(backbone(backbone.preprocess(images)), expected, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_prefixes_reach_their_blocks(backbone, images):
    rng = np.random.default_rng(0)
    prefixes = {i: tuple(rng.normal(size=(B, L, 16)).astype(np.float32) for _ in range(2)) for i in (0, 2, 4)}
    found = backbone.encode(backbone.embed(images), prefixes)
    np.testing.assert_allclose(found, numpy_backbone(backbone, images, prefixes), rtol=0, atol=2e-5)
    without = backbone.encode(backbone.embed(images))
    assert np.abs(found - without).max() > 0.1
    np.testing.assert_array_equal(without, backbone.features(images))
    single = backbone.encode(
        backbone.embed(images[1:2]), {i: tuple(part[1:2] for part in pair) for i, pair in prefixes.items()}
    )
    np.testing.assert_allclose(single, found[1:2], rtol=0, atol=1e-5)


def test_pixels_may_be_bytes_or_floats(backbone, images):
    np.testing.assert_array_equal(backbone.features(images), backbone.features(images.astype(np.float32)))


def test_raw_pixels_are_no_normalised_images(backbone, images):
    with pytest.raises(UserError, match=r"takes what backbone\.preprocess\(images\) gives, got uint8"):
        backbone(images)


@pytest.mark.parametrize("shape", [(2, 16, 16, 3), (2, 40, 24, 3), (0, 9, 9, 3)])
def test_preprocess_resizes_and_normalises(shape, backbone):
    images = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    found = backbone.preprocess(images)
    assert found.dtype == np.float32
    assert found.shape == (shape[0], 16, 16, 3)
    for picture, values in zip(images, found, strict=True):
        pixels = np.asarray(Image.fromarray(picture).resize((16, 16), Image.Resampling.BICUBIC), np.float64)
        expected = (pixels / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.25]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (np.zeros((16, 16, 3), np.uint8), "uint8 [16, 16, 3]"),
        (np.zeros((1, 16, 16, 3), np.float32), "float32 [1, 16, 16, 3]"),
        (np.zeros((1, 3, 16, 16), np.uint8), "uint8 [1, 3, 16, 16]"),
        (np.zeros((1, 0, 16, 3), np.uint8), "uint8 [1, 0, 16, 3]"),
    ],
)
def test_preprocess_takes_bytes_alone(images, got, backbone):
    with pytest.raises(UserError) as error:
        backbone.preprocess(images)
    assert str(error.value).startswith(f"images must be uint8 [N, H, W, 3], got {got}; give RGB pixels 0..255")


def test_every_weight_has_a_gradient_but_the_keys_offsets(backbone, images):
    with tf.GradientTape() as tape:
        features = backbone.features(images, training=True)
        loss = tf.reduce_sum(features * np.random.default_rng(1).normal(size=features.shape).astype(np.float32))
    names, variables = zip(*named_variables(backbone).items(), strict=True)
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    silent = {name for name, gradient in zip(names, gradients, strict=True) if np.abs(gradient).max() < 1e-5}
    # Without a prefix the same amount is added to all scores of a query, which softmax does not see.
    assert silent == {f"block_{i}/key/bias" for i in range(5)}


def test_a_frozen_backbone_trains_nothing(tiny_backbone):
    model = Backbone(tiny_backbone)
    model.build()
    assert len(model.trainable_variables) == 2 + 2 * 2 + 5 * 12 + 2
    model.trainable = False
    assert model.trainable_variables == []


def test_a_config_survives_json(tiny_backbone):
    for config in (tiny_backbone, BackboneConfig(), PromptConfig(g_blocks=(1,))):
        assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match="BackboneConfig: unknown key hieght; known keys: image_size, stem"):
        BackboneConfig.from_dict({"hieght": 3})


# Weights --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("quantized", [False, True])
def test_weights_go_through_a_file_in_half_precision(quantized, backbone, images, tmp_path):
    path = tmp_path / "weights.npz"
    save_weights(backbone, path)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.npz"]
    other = Backbone(backbone.config, quantized=quantized, name="another_name")
    other.build()
    load_weights(other, path)
    for name, variable in named_variables(other).items():
        expected = named_variables(backbone)[name].numpy().astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(variable.numpy(), expected, err_msg=name)
    np.testing.assert_allclose(other.features(images), backbone.features(images), rtol=0, atol=2e-2)


def test_weights_that_do_not_fit_are_refused_whole(backbone, tmp_path):
    path = tmp_path / "weights.npz"
    save_weights(backbone, path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["extra/kernel"] = arrays.pop("norm/scale")
    arrays["block_1/key/bias"] = np.zeros(3)
    np.savez(path, **arrays)
    before = [np.array(variable.numpy()) for variable in backbone.weights]
    with pytest.raises(ValueError, match="does not fit the backbone") as error:
        load_weights(backbone, path)
    for part in ("missing norm/scale", "(and 2 more that do not fit)"):
        assert part in str(error.value)
    for variable, value in zip(backbone.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_the_shipped_preset():
    assert {"vit_nano_32", "vit_micro_32", "deit_tiny_16_224", "vit_small_16_224", "vit_base_16_224"} <= set(PRESETS)
    assert all(get_preset(name).name == name for name in PRESETS)
    preset = get_preset("vit_nano_32")
    model = Backbone(preset.backbone)
    model.build()
    assert 1_000_000 <= model.count_params() <= 2_000_000
    assert model.embedding.tokens == 17
    path = Path(keras_cbpnet.__file__).with_name("weights") / preset.weights
    assert path.stat().st_size <= 4.3e6  # whitening transforms of 2, 3 and 4 blocks among them
    assert zipfile.is_zipfile(path)
    load_weights(model, path)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    features = model.features(images).numpy()
    assert features.shape == (2, 192)
    assert np.isfinite(features).all()
    assert np.abs(features[0] - features[1]).max() > 0.1
    again = keras_cbpnet.Backbone.from_preset("vit_nano_32")
    np.testing.assert_allclose(again(again.preprocess(images)), features, rtol=0, atol=1e-4)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="unknown preset 'vit_giant'; known presets: vit_nano_32"):
        get_preset("vit_giant")
