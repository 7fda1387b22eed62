"""L2P's pool of prompts and the absence of prompts; the features of a task behind each kind of prompts."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import numpy_vit

from keras_cbpnet.config import HeadConfig, PromptConfig
from keras_cbpnet.data import Dataset, make_stream
from keras_cbpnet.layers.fixed_prompt import FixedPrompt
from keras_cbpnet.layers.no_prompts import NoPrompts
from keras_cbpnet.layers.prompt_pool import PromptPool
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.prompted_classifier import PromptedClassifier
from keras_cbpnet.models.weights import named_variables
from keras_cbpnet.training.features import tasks as task_features

# Dimensions: B images, N tokens, P prompts, K chosen ones, L tokens of a prompt, D width.
P, K, L, D = 7, 2, 3, 16
QUERY = np.random.default_rng(8).normal(size=(3, D)).astype(np.float32)


@pytest.fixture(scope="module")
def backbone(tiny_backbone, randomised):
    model = Backbone(tiny_backbone, name="backbone")
    model.build()
    randomised(model)
    model.trainable = False
    return model


@pytest.fixture
def pool():
    keras.utils.set_random_seed(0)
    layer = PromptPool(P, K, L, D, name="prompts")
    layer.build()
    rng = np.random.default_rng(5)
    layer.prompt.assign(rng.normal(size=(P, L, D)))
    layer.key.assign(rng.normal(size=(P, D)) * rng.uniform(0.1, 9, (P, 1)))  # their lengths do not count
    return layer


@pytest.fixture(scope="module")
def images(coloured_images):
    return coloured_images(3, [0, 1, 2], seed=4)[0]


def nearest(layer, query):
    """The K nearest keys by cosine, nearest first, int [B, K], and their cosines."""
    key, query = np.asarray(layer.key, np.float64), np.asarray(query, np.float64)
    cosine = query @ key.T / np.linalg.norm(query, axis=1)[:, None] / np.linalg.norm(key, axis=1)
    order = np.argsort(-cosine, axis=1)[:, :K]
    return order, np.take_along_axis(cosine, order, axis=1)


def test_prompt_pool_layer(checked):
    query = np.random.default_rng(0).normal(size=(20, D)).astype(np.float32)
    layer = PromptPool(P, K, L, D, name="prompts")
    index = checked(layer, query, (20,))
    np.testing.assert_array_equal(index, nearest(layer, query)[0][:, 0])
    assert len(set(index.tolist())) > 3


def test_prompts_are_tokens_in_front_and_the_feature_their_mean(backbone, pool, images):
    tokens, query = backbone.embed(images), tf.constant(QUERY)
    feature, first, match = pool.encode(backbone, tokens, query)
    index, cosine = nearest(pool, query)
    assert len({tuple(row) for row in index}) > 1  # each image chooses
    weights = numpy_vit.arrays(named_variables(backbone))
    extra = np.asarray(pool.prompt, np.float64)[index].reshape(len(images), K * L, D)
    x = np.concatenate([extra, np.asarray(tokens, np.float64)], axis=1)  # (B, K L + N, D)
    for i in range(backbone.config.depth):
        x = numpy_vit.encoder_block(numpy_vit.below(weights, f"block_{i}/"), x, backbone.config.heads)
    x = numpy_vit.layer_norm(x[:, : K * L]) * weights["norm/scale"] + weights["norm/offset"]
    np.testing.assert_allclose(feature, x.mean(axis=1), rtol=0, atol=5e-5)
    np.testing.assert_array_equal(first, index[:, 0])
    np.testing.assert_allclose(match, cosine.sum(axis=1), rtol=0, atol=1e-5)
    for i in range(len(images)):
        alone = pool.encode(backbone, tokens[i : i + 1], query[i : i + 1])
        np.testing.assert_allclose(alone[0][0], feature[i], rtol=0, atol=1e-5)
        assert int(alone[1][0]) == index[i, 0]


def test_gradients_reach_the_chosen_prompts_and_their_keys_only(backbone, pool, images):
    tokens, query = backbone.embed(images[:2]), tf.constant(QUERY[:2])
    chosen = sorted(set(nearest(pool, query)[0].ravel().tolist()))
    others = [p for p in range(P) if p not in chosen]
    assert others
    weight = np.random.default_rng(1).normal(size=(2, D)).astype(np.float32)
    with tf.GradientTape() as tape:
        feature, _, match = pool.encode(backbone, tokens, query)
        loss = tf.reduce_sum(feature * weight) - tf.reduce_mean(match)
    assert {variable.name for variable in pool.trainable_variables} == {"prompt", "key"}
    gradients = tape.gradient(loss, [pool.prompt.value, pool.key.value])
    for gradient in (tf.convert_to_tensor(g).numpy() for g in gradients):
        assert np.abs(gradient[chosen]).reshape(len(chosen), -1).max(axis=1).min() > 1e-4
        assert np.all(gradient[others] == 0)


def test_no_prompts_give_the_queries(checked):
    query = np.random.default_rng(0).normal(size=(4, D)).astype(np.float32)
    layer = NoPrompts()
    feature, index, match = layer.encode(None, None, tf.constant(query), prompt=3)
    np.testing.assert_array_equal(feature, query)
    np.testing.assert_array_equal(index, np.zeros(4))
    np.testing.assert_array_equal(match, np.zeros(4))
    assert (layer.begin_task(query), layer.blocks, layer.variables) == (0, (), [])
    assert NoPrompts.from_config(layer.get_config()).get_config() == layer.get_config()


# The features of a task -----------------------------------------------------------------------------------------------


class Frozen:
    """The queries of a data set, counted."""

    def __init__(self, model, data):
        found = {part: model.query(data.images(part, np.arange(10))) for part in ("train", "test")}
        self.query = {part: None if query is None else np.asarray(query) for part, query in found.items()}
        self.data, self.asked = data, 0

    def rows(self, part, rows):
        self.asked += len(rows)
        return self.query[part][rows]


@pytest.fixture(scope="module")
def data(coloured_images):
    (x, y), (x_test, y_test) = (coloured_images(10, range(5), seed) for seed in (0, 1))
    return Dataset(x, y.astype(np.int64), x_test, y_test.astype(np.int64), tuple("abcde"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["expert", "early", "fixed", "pool", "none"])
def test_task_features_are_those_of_the_model(kind, tiny_backbone, data, randomised, monkeypatch):
    monkeypatch.setattr(Backbone, "pass_images", 4)  # three batches, the last one shorter
    early = PromptConfig(length=2, pool=2, query_depth=1)
    dual = {"expert": PromptConfig(length=2, pool=2), "early": early, "fixed": FixedPrompt(early, D)}
    prompts = {**dual, "pool": PromptPool(width=D), "none": NoPrompts()}[kind]
    model = PromptedClassifier(tiny_backbone, prompts, HeadConfig(units=4, slots=8))
    model.build()
    randomised(model.prompts)
    (task,) = make_stream("class", data, 1, seed=0)
    for _ in range(2):
        model.prompts.begin_task(model.query(task.x_train))
    randomised(model.prompts, seed=2)
    frozen = Frozen(model, data)
    cached, plain = task_features.TaskFeatures(model, frozen), task_features.TaskFeatures(model, None)
    for part, images in (("train", task.x_train), ("test", task.x_test)):
        if kind == "fixed":
            assert (cached.query(task, part), plain.query(task, part)) == (None, None)
        else:
            np.testing.assert_allclose(cached.query(task, part), model.query(images), rtol=0, atol=1e-6)
            np.testing.assert_allclose(plain.query(task, part), model.query(images), rtol=0, atol=1e-5)
        for prompt in (None, 0, model.prompts.newest):
            expected = np.asarray(model.features(images, prompt)[0])
            np.testing.assert_allclose(cached(task, part, prompt), expected, rtol=0, atol=1e-5)
            np.testing.assert_allclose(plain(task, part, prompt), expected, rtol=0, atol=1e-5)
    assert frozen.asked == (0 if kind == "fixed" else 2 * 4 * 10)
    if kind in ("expert", "fixed"):  # what was traced follows the prompts
        before = cached(task, "test")
        randomised(model.prompts, seed=3)
        assert np.abs(cached(task, "test") - before).max() > 1e-2
        np.testing.assert_allclose(cached(task, "test"), model.features(task.x_test)[0], rtol=0, atol=1e-5)
