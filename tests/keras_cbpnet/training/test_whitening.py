"""Whitening by the first task or other data: the matrix, its layer, what is cached before it, a run with it."""

import contextlib
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny_stream

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.data import Dataset, make_stream, open_dataset
from keras_cbpnet.head.standardise import whitening
from keras_cbpnet.layers.fake_quant import float32, get_mode
from keras_cbpnet.methods.build import build_model
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.training.features.cache import FrozenFeatures
from keras_cbpnet.training.trainer import train
from keras_cbpnet.training.whitening import SHRINKAGE, SHRINKAGE_MANY, drawn, whiten_by_data

# Dimensions: N images, D feature size, K classes.
N, D, K = 600, 6, 3
pytestmark = pytest.mark.filterwarnings("ignore:Even though the")  # tf.data is never eager


def within(features, labels):
    """Return the covariance within the classes."""
    groups = [features[labels == k] - features[labels == k].mean(axis=0) for k in np.unique(labels)]
    return sum(g.T @ g for g in groups) / (len(features) - len(groups))


def samples(seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, N)
    mixed = rng.normal(size=(N, D)) @ rng.normal(size=(D, D))
    return mixed + 9 * rng.normal(size=(K, D))[labels], labels


# The matrix -----------------------------------------------------------------------------------------------------------


def test_the_covariance_within_the_classes_becomes_one():
    features, labels = samples()
    mean, matrix = whitening(features, labels, shrinkage=0.0)
    np.testing.assert_allclose(mean, features.mean(axis=0))
    np.testing.assert_allclose(within((features - mean) @ matrix, labels), np.eye(D), atol=1e-9)


def test_shrinkage_keeps_the_shape():
    features, labels = samples()
    _, matrix = whitening(features, labels, shrinkage=1.0)
    np.testing.assert_allclose(matrix, np.eye(D) / np.sqrt(np.trace(within(features, labels)) / D), atol=1e-12)
    _, half = whitening(features, labels, shrinkage=0.5)
    expected = 0.5 * within(features, labels) + 0.5 * np.trace(within(features, labels)) / D * np.eye(D)
    np.testing.assert_allclose(np.linalg.inv(half @ half), expected, rtol=1e-9)


def test_fewer_images_than_dimensions_and_classes_of_one_image():
    features, _ = samples()
    _, matrix = whitening(features[:4], np.array([0, 0, 1, 1]), SHRINKAGE)
    assert np.all(np.isfinite(matrix))
    assert np.linalg.matrix_rank(matrix) == D
    mean, matrix = whitening(features[:2], np.array([0, 1]), SHRINKAGE)
    np.testing.assert_array_equal(matrix, np.eye(D))
    np.testing.assert_allclose(mean, features[:2].mean(axis=0))


# The layer ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone():
    model = Backbone(BackboneConfig(image_size=16, width=8, depth=2, heads=2, mlp_width=8, whitening=True))
    model.build()
    rng = np.random.default_rng(1)
    model.set_whitening(np.eye(8) + 0.1 * rng.normal(size=(8, 8)), rng.normal(size=8))
    return model


def test_it_comes_on_top_of_what_is_there(backbone, coloured_images):
    images, _ = coloured_images(9, [0, 1], 0)
    before, kept = np.asarray(backbone.features(images)), [np.array(v) for v in backbone.whitening.weights]
    mean, matrix = before.mean(axis=0), np.random.default_rng(2).normal(size=(8, 8))
    backbone.add_whitening(mean, matrix)
    np.testing.assert_allclose(backbone.features(images), (before - mean) @ matrix, rtol=0, atol=1e-4)
    for variable, value in zip(backbone.whitening.weights, kept, strict=True):
        variable.assign(value)


def test_cached_features_follow_it_and_are_not_computed_again(backbone, coloured_images, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path))
    (x, y), (x_test, y_test) = coloured_images(9, [0, 1], 0), coloured_images(5, [0, 1], 0)
    data = Dataset(x, y.astype(np.int64), x_test, y_test.astype(np.int64), ("a", "b"), image_size=(16, 16))
    rows, features = np.array([3, 0, 8]), FrozenFeatures(backbone, data)
    early = FrozenFeatures(backbone, data, depth=1)
    expected = np.asarray(backbone.features(x))[rows]
    np.testing.assert_allclose(features.rows("train", rows), expected, rtol=0, atol=1e-5)
    kept, files = early.rows("train", rows), sorted(tmp_path.glob("*.npy"))
    backbone.add_whitening(np.ones(8), 2 * np.eye(8))
    np.testing.assert_allclose(features.rows("train", rows), 2 * (expected - 1), rtol=0, atol=1e-5)
    again = FrozenFeatures(backbone, data)
    np.testing.assert_allclose(again.rows("train", rows), 2 * (expected - 1), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(early.rows("train", rows), kept)
    plain = Backbone(dataclasses.replace(backbone.config, whitening=False))
    plain.build()
    for layer, other in zip((plain.embedding, *plain.blocks), (backbone.embedding, *backbone.blocks), strict=True):
        layer.set_weights(other.get_weights())
    expected = np.asarray(plain.features(x))[rows]
    np.testing.assert_allclose(FrozenFeatures(plain, data).rows("train", rows), expected, rtol=0, atol=1e-5)
    assert sorted(tmp_path.glob("*.npy")) == files


def test_rows_are_drawn_evenly_and_none_of_a_small_class_is_lost():
    labels = np.repeat([0, 1, 2], [50, 3, 20])
    rows = drawn(labels, 15)
    assert np.bincount(labels[rows]).tolist() == [6, 3, 6]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(drawn(labels, 100), np.arange(73))


def test_other_data_may_have_rare_classes_and_domains(backbone, coloured_images, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path))
    monkeypatch.setattr("keras_cbpnet.training.whitening.IMAGES", 12)
    kept = [np.array(v) for v in backbone.whitening.weights]
    (x, y), (x_test, y_test) = coloured_images(9, [0, 1], 0), coloured_images(5, [0, 1], 0)
    domains = np.zeros(len(y), np.int64)
    for label in (0, 1):
        domains[np.flatnonzero(y == label)[::2]] = 1
    y, y_test = y.astype(np.int64), y_test.astype(np.int64)
    data = Dataset(x, y, x_test, y_test, ("a", "b"), ("day", "night"), domains, None, (16, 16))
    rows = drawn(y, 12)
    whiten_by_data(backbone, data, lambda line: None)
    assert np.abs(np.asarray(backbone.features(x[rows])).mean(axis=0)).max() < 1e-3
    for variable, value in zip(backbone.whitening.weights, kept, strict=True):
        variable.assign(value)


# A run ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stream(tmp_path_factory, tiny_backbone):
    tf.config.run_functions_eagerly(True)
    with tiny_stream.opened(tmp_path_factory.mktemp("stream"), tiny_backbone) as stream:
        yield stream
    tf.config.run_functions_eagerly(False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompts": False, "qat": True},
        {"query_depth": 1, "prompts": True},
        {"other": True},
    ],
)
def test_a_run_whitens_once_before_it_learns(stream, tmp_path, monkeypatch, options):
    monkeypatch.setattr("keras_cbpnet.training.trainer.write_report", lambda *_: None)
    monkeypatch.setattr("keras_cbpnet.training.whitening.IMAGES", 24)  # of 32
    options = dict(options)
    other = options.pop("other", False)
    config = stream.config(method="cbpnet", **options)
    config = dataclasses.replace(config, whiten=config.dataset if other else "task")
    run, again = tmp_path / "run", tmp_path / "again"
    metrics = train(config, run, tiny_stream.copied_at("task 1/2:", run, again))
    model = keras.models.load_model(run / "model.keras")
    assert get_mode(model) == ("on" if config.qat else "off")
    start, data = build_model(config, 4), open_dataset(config.dataset, 16)
    first = make_stream("class", data, 2, config.seed)[0]
    images, labels = first.x_train, first.y_train
    if other:
        rows = drawn(data.y_train, 24)
        images, labels = data.x_train[rows], data.y_train[rows]
    if not config.qat:  # otherwise the tokens were rotated and rounded
        rows = np.asarray(start.backbone.features(images))
        start.backbone.add_whitening(*whitening(rows, labels, SHRINKAGE_MANY if other else SHRINKAGE))
        np.testing.assert_allclose(
            model.backbone.whitening.kernel, start.backbone.whitening.kernel, rtol=1e-3, atol=1e-3
        )
    # By other data before the model is quantized, by the first task after.
    with float32(model) if other else contextlib.nullcontext():
        white = np.asarray(model.backbone.features(images))
    assert np.abs(white.mean(axis=0)).max() < 0.3
    assert train(config, again) == metrics  # taken up behind the first task
    resumed = keras.models.load_model(again / "model.keras")
    np.testing.assert_array_equal(resumed.backbone.whitening.kernel, model.backbone.whitening.kernel)
