"""The rotation of the tokens: the same features, and no channel that stands out."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.calibration import calibrate
from keras_cbpnet.models.rotation import learn_rotation, rotate, spread_outliers
from keras_cbpnet.models.weights import copy_weights, named_variables

pytestmark = pytest.mark.slow  # each builds or trains networks

CONFIG = BackboneConfig(width=24, depth=3, heads=2, mlp_width=40, stem=((6, 2),), patch_size=4, whitening=True)
OUTLIERS = {3: 30.0, 17: -20.0}


def images(count=24):
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def randomised(backbone):
    """The backbone with weights away from their start, and two channels of its tokens far larger than the others."""
    keras.utils.set_random_seed(0)
    backbone.build()
    rng = np.random.default_rng(2)
    for variable in named_variables(backbone).values():
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape).astype(np.float32))
    position = np.array(backbone.embedding.position)
    for channel, size in OUTLIERS.items():
        position[..., channel] += size
    backbone.embedding.position.assign(position)
    return backbone


@pytest.fixture
def backbone():
    return randomised(Backbone(CONFIG, quantized=True))


def orthogonal(width, seed=0):
    return learn_rotation([mean_free(np.random.default_rng(seed).normal(size=(40, width)))])


def mean_free(x):
    return (x - x.mean(axis=1, keepdims=True)).astype(np.float32)


def test_a_rotation_is_orthogonal_and_keeps_the_mean():
    rotation = orthogonal(24)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(24), atol=1e-12)
    np.testing.assert_allclose(rotation @ np.ones(24), np.ones(24), atol=1e-12)
    assert np.abs(rotation).max() < 0.9


def test_outlier_channels_are_spread_over_all():
    rng = np.random.default_rng(3)
    tokens = rng.normal(size=(400, 48))
    tokens[:, 5] += 40.0
    tokens = mean_free(tokens)
    found = tokens @ learn_rotation([tokens])
    assert np.abs(tokens).max() > 35
    # A token of length 40 has no entry below 40 / sqrt(48) = 5.8 everywhere, and there is noise on top.
    assert np.abs(found).max() < 12


def test_rotating_changes_no_feature(backbone):
    before, embedded = (np.asarray(f(images())) for f in (backbone.features, backbone.embed))
    rotation = orthogonal(24)
    rotate(backbone, rotation)
    np.testing.assert_allclose(backbone.embed(images()), embedded @ rotation, atol=1e-4)
    np.testing.assert_allclose(backbone.features(images()), before, atol=1e-4)


def test_quantized_features_come_nearer_to_those_in_float32(backbone):
    wanted = np.asarray(backbone.features(images()))
    plain = Backbone(CONFIG, quantized=True)
    plain.build()
    copy_weights(backbone, plain)
    calibrate(plain, plain.features, images())
    spread_outliers(backbone, images())
    calibrate(backbone, backbone.features, images())

    def error(found):
        return np.sqrt(np.mean(np.square(np.asarray(found.features(images())) - wanted)))

    assert 0 < error(backbone) < 0.6 * error(plain)


def test_the_same_images_give_the_same_rotation():
    first, second = (randomised(Backbone(CONFIG, quantized=True)) for _ in range(2))
    for each in (first, second):
        spread_outliers(each, images())
    for name, variable in named_variables(first).items():
        np.testing.assert_array_equal(variable, named_variables(second)[name])


def test_without_a_last_dense_layer_it_is_refused():
    plain = randomised(Backbone(dataclasses.replace(CONFIG, whitening=False)))
    before = {name: np.array(v) for name, v in named_variables(plain).items()}
    with pytest.raises(ValueError, match="whitening=True"):
        spread_outliers(plain, images())
    for name, variable in named_variables(plain).items():
        np.testing.assert_array_equal(variable, before[name])


def test_a_dense_layer_takes_over_scale_and_offset_of_the_last_norm():
    plain = randomised(Backbone(dataclasses.replace(CONFIG, whitening=False)))
    dense = Backbone(CONFIG)
    dense.build()
    copy_weights(plain, dense)
    np.testing.assert_allclose(dense.features(images()), plain.features(images()), atol=1e-4)
    assert np.ptp(np.asarray(plain.norm.scale)) > 0.1
