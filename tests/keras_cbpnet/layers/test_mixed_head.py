"""The default head as a layer: block and bank, in eager mode and in a graph, saved, and as a bundle takes it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from firmware_host.shared.bank import Mixture, bank_shapes
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.layers.mixed_head import MixedHead, bank_sizes

D, C = 12, 6


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def images(rng, classes=4, each=15):
    centres = np.random.default_rng(1).normal(size=(C, D)) * 3
    label = np.repeat(np.arange(classes), each).astype(np.int32)
    return (centres[label] + rng.normal(size=(len(label), D))).astype(np.float32), label


def head_of(rng, **options):
    head = MixedHead(HeadConfig(units=4, slots=C, batch=8), **options)
    head.build((None, D))
    feature, label = images(rng)
    head.standardise(feature)
    head.open(range(4))
    head.learn_bank(feature, label, rng)
    return head, feature, label


def test_its_probabilities_are_those_of_the_mixture(rng):
    head, feature, label = head_of(rng)
    block = keras.ops.convert_to_numpy(keras.ops.softmax(super(MixedHead, head).call(feature)))
    expected = head.mixture.probabilities(block, feature)
    found = np.exp(np.asarray(head(feature)))
    np.testing.assert_allclose(found[:, :4], expected[:, :4], rtol=1e-4, atol=1e-6)
    assert np.mean(found.argmax(axis=1) == label) > 0.95
    assert (np.asarray(head(feature))[:, 4:] == -1e9).all()


def test_a_graph_computes_the_same(rng):
    head, feature, _ = head_of(rng)
    in_graph = tf.function(head)(tf.constant(feature))
    assert in_graph.shape == (len(feature), C)
    np.testing.assert_allclose(in_graph, head(feature), rtol=1e-5)


@pytest.mark.slow
def test_saved_and_loaded_it_is_the_same(rng, tmp_path):
    head, feature, _ = head_of(rng)
    inputs = keras.Input((D,))
    model = keras.Model(inputs, head(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(feature), head(feature), atol=1e-4)
    other = MixedHead(HeadConfig(units=4, slots=C, batch=8))
    fresh = keras.Model(inputs, other(inputs))
    other(feature)  # its bank is in use, and empty, when the weights come
    fresh.load_weights(tmp_path / "model.keras")
    np.testing.assert_allclose(fresh(feature), head(feature), atol=1e-4)


def test_a_bundle_of_more_slots_has_the_same_bank(rng):
    head, feature, _ = head_of(rng)
    arrays = head.shipped_bank(9)
    slots, directions = bank_sizes(9, D)
    assert {name: value.shape for name, value in arrays.items()} == bank_shapes(9, slots, D, directions)
    mean, scale = np.asarray(head.feature_mean), np.asarray(head.feature_scale)
    wider = Mixture(arrays, mean, scale)
    np.testing.assert_allclose(wider.bank.logits(feature)[:, :C], head.mixture.bank.logits(feature), atol=1e-3)


def test_views_make_another_camera_known(rng):
    """Images that a camera shifts along one feature are still found when views of training images were shifted."""
    feature, label = images(rng, each=30)
    shift = np.zeros(D, np.float32)
    shift[3] = 12.0
    amount = rng.normal(size=(len(label), 1)).astype(np.float32)
    heads = []
    for views in (None, (feature + amount * shift, np.arange(len(label)))):
        head = MixedHead(HeadConfig(units=4, slots=C, batch=8), block_weight=0.0)
        head.build((None, D))
        head.standardise(feature)
        head.open(range(4))
        head.learn_bank(feature, label, rng, views)
        heads.append(np.mean(np.asarray(head(feature + shift)).argmax(axis=1) == label))
    assert heads[1] > heads[0] + 0.2


@pytest.mark.slow
def test_labels_that_change_their_meaning_are_followed(rng):
    head, feature, label = head_of(rng, rebinds=True)
    for _ in range(4):
        head.learn_bank(feature, label, rng)
    moved = (label + 1) % 4
    for _ in range(4):
        head.learn_bank(feature, moved, rng)
    assert np.mean(np.asarray(head(feature)).argmax(axis=1) == moved) > 0.8
