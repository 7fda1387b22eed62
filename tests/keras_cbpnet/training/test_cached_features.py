"""The features of a data set's images: computed once, a file for each set of images and weights."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_cbpnet.data import Dataset
from keras_cbpnet.training.features.cache import (
    FrozenFeatures,
)


@pytest.fixture(scope="module")
def backbone(tiny_backbone):
    from keras_cbpnet.models.backbone import Backbone

    model = Backbone(tiny_backbone, name="backbone")
    model.build()
    return model


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path / "a" / "b"))
    return tmp_path / "a" / "b"


def dataset(coloured_images, seed=0):
    (x, y), (x_test, y_test) = (coloured_images(n, [0, 1], seed) for n in (9, 5))
    return Dataset(x, y.astype(np.int64), x_test, y_test.astype(np.int64), ("a", "b"), image_size=(16, 16))


def names(folder):
    return sorted(path.name for path in folder.glob("*.npy"))


@pytest.mark.slow
def test_features_of_a_data_set_are_computed_once(backbone, folder, coloured_images, monkeypatch):
    data, lines = dataset(coloured_images), []
    features = FrozenFeatures(backbone, data, lines.append)
    rows = np.array([7, 2, 2])
    expected = np.asarray(backbone.features(data.x_train))
    np.testing.assert_allclose(features.rows("train", rows), expected[rows], rtol=0, atol=1e-5)
    third = np.asarray(backbone.features(data.x_test))[2]
    np.testing.assert_allclose(features.rows("test", rows[1:]), [third, third], rtol=0, atol=1e-5)
    assert lines[-1] == "test features: 5 of 5 images"
    assert len(names(folder)) == 2
    found = features.rows("train", rows)
    found[:] = 0  # a copy
    monkeypatch.setattr(Dataset, "images", SimpleNamespace)  # nobody asks for an image again
    again = FrozenFeatures(backbone, dataset(coloured_images), lines.append)
    np.testing.assert_allclose(again.rows("train", rows), expected[rows], rtol=0, atol=1e-5)
    assert lines[-1] == "test features: 5 of 5 images"


@pytest.mark.slow
def test_other_images_and_other_weights_have_files_of_their_own(backbone, folder, coloured_images):
    data = dataset(coloured_images)
    FrozenFeatures(backbone, data).rows("train", np.arange(2))
    first = names(folder)
    FrozenFeatures(backbone, dataset(coloured_images, seed=1)).rows("train", np.arange(2))
    bias = next(variable for variable in backbone.weights if variable.name == "bias")
    before = np.array(bias)
    bias.assign(before + 0.1)
    other = FrozenFeatures(backbone, data).rows("train", np.arange(2))
    np.testing.assert_allclose(other, backbone.features(data.x_train[:2]), rtol=0, atol=1e-5)
    bias.assign(before)
    assert len(names(folder)) == 3
    assert set(first) < set(names(folder))
