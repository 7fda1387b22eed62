"""Fake quantizers of a whole model: a calibration sets their ranges, training moves them, they can be switched off."""

import keras
import numpy as np
import pytest

from keras_cbpnet.config import BackboneConfig, HeadConfig, PromptConfig
from keras_cbpnet.layers.fake_quant import fake_quantizers, float32, get_mode
from keras_cbpnet.models.calibration import calibrate
from keras_cbpnet.models.prompted_classifier import PromptedClassifier
from keras_cbpnet.models.weights import named_variables

pytestmark = pytest.mark.slow  # each builds or trains networks

SIZES = BackboneConfig(image_size=16, stem=((8, 2),), patch_size=4, width=16, depth=2, heads=2, mlp_width=32)
PROMPTS = PromptConfig(length=2, expert_length=2, g_blocks=(0,), e_blocks=(1,), pool=2)
HEAD = HeadConfig(units=4, slots=4, batch=8)


def bounds(layer):
    return tuple(np.array(layer.range[name].numpy()) for name in ("min_var", "max_var"))


def build(images, quantized, randomised):
    keras.utils.set_random_seed(0)
    model = PromptedClassifier(SIZES, PROMPTS, HEAD, quantized=quantized)
    model.build()
    randomised(model.prompts)
    for variable in named_variables(model.backbone).values():
        variable.assign(variable + 0.01)
    model.begin_task(model.batched(model.query, images), [0, 1])
    return model


@pytest.fixture(scope="module")
def images(coloured_images):
    return coloured_images(32, [0, 1, 2, 3])[0]


@pytest.fixture
def model(images, randomised):
    return build(images, True, randomised)


@pytest.fixture
def plain(model, images, randomised):
    """The same weights without quantizers."""
    other = build(images, False, randomised)
    for source, target in ((model.backbone, other.backbone), (model.prompts, other.prompts)):
        weights = named_variables(source)
        for name, variable in named_variables(target).items():
            variable.assign(weights[name])
    return other


def features(model, images):
    return model.features(images)[0].numpy()


def test_a_quantized_model_is_the_plain_one_until_switched_on(model, plain, images):
    assert get_mode(model) == get_mode(plain) == "off"
    assert list(fake_quantizers(plain)) == []
    places = {layer.path for layer in fake_quantizers(model)}
    assert len(places) == 1 + 6 + 2 * (11 + 2 + 6) + 1  # pixels, embedding, blocks, norm
    np.testing.assert_array_equal(features(model, images), features(plain, images))


def test_calibrate_sets_every_range_and_switches_on(model, plain, images):
    calibrate(model, model.features, images, batch=12)
    assert {layer.mode for layer in fake_quantizers(model)} == {"on"}
    for layer in fake_quantizers(model):
        low, high = bounds(layer)
        assert np.all(high > low), layer.path
        assert np.all(low <= 0), layer.path
        assert np.all(high >= 0), layer.path
    assert bounds(model.backbone.pixels) == (0, 255)
    found, expected = features(model, images), features(plain, images)
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.98
    assert np.abs(found - expected).max() > 1e-3
    low, high = bounds(model.backbone.norm.quantizer)
    quanta = found / (high - low) * 255
    np.testing.assert_allclose(quanta, np.round(quanta), rtol=0, atol=1e-3)


def test_a_second_calibration_forgets_the_first(model, images):
    calibrate(model, model.features, images)
    first = [bounds(layer) for layer in fake_quantizers(model)]
    for layer in fake_quantizers(model):
        for variable in layer.range.values():
            variable.assign(variable * 9)
    calibrate(model, model.features, images)
    for layer, expected in zip(fake_quantizers(model), first, strict=True):
        np.testing.assert_array_equal(bounds(layer), expected, err_msg=layer.path)


def test_ranges_move_in_training_only(model, images):
    calibrate(model, model.features, images[:8])
    model.compile(keras.optimizers.SGD(0.0))
    activations = [layer for layer in fake_quantizers(model) if layer.kind == "activation"]
    weights = [layer for layer in fake_quantizers(model) if layer.kind != "activation"]
    assert len(weights) == 2 + 2 * 6
    before = {layer.path: bounds(layer) for layer in fake_quantizers(model)}
    brighter = 255 - images[8:16]
    model(brighter)
    for layer in fake_quantizers(model):
        np.testing.assert_array_equal(bounds(layer), before[layer.path], err_msg=layer.path)
    model.train_step((brighter, np.array([0, 1] * 4)))
    for layer in weights:
        np.testing.assert_array_equal(bounds(layer), before[layer.path], err_msg=layer.path)
    moved = [np.any(np.array(bounds(layer)) != before[layer.path]) for layer in activations]
    assert np.mean(moved) > 0.9


def test_float32_switches_off_and_back(model, plain, images):
    calibrate(model, model.features, images)
    quantized = features(model, images)
    with float32(model):
        assert {layer.mode for layer in fake_quantizers(model)} == {"off"}
        np.testing.assert_array_equal(features(model, images), features(plain, images))
    assert {layer.mode for layer in fake_quantizers(model)} == {"on"}
    np.testing.assert_array_equal(features(model, images), quantized)
    with pytest.raises(RuntimeError, match="stop"), float32(model):
        raise RuntimeError("stop")
    assert {layer.mode for layer in fake_quantizers(model)} == {"on"}
    with float32(plain):  # nothing to switch
        pass


def test_predict_follows_a_change_of_mode(model, images):
    calibrate(model, model.features, images)
    model.head.assign({"class_mean": features(model, images[:4]), "class_mask": np.ones(4)})
    model.compile(jit_compile=False)
    on = model.predict(images, verbose=0)
    with float32(model):
        off = model.predict(images, verbose=0)
    np.testing.assert_allclose(off, model_off(model, images), rtol=0, atol=1e-4)
    assert np.abs(on - off).max() > 1e-3


def model_off(model, images):
    with float32(model):
        return model(images).numpy()


def test_a_calibrated_model_survives_saving(model, images, tmp_path):
    calibrate(model, model.features, images)
    model.head.assign({"class_mean": features(model, images[:4]), "class_mask": np.ones(4)})
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert get_mode(reloaded) == "on"
    for layer, other in zip(fake_quantizers(model), fake_quantizers(reloaded), strict=True):
        np.testing.assert_array_equal(bounds(layer), bounds(other), err_msg=layer.path)
    np.testing.assert_array_equal(reloaded(images), model(images))
