"""One pass or two: a query from an early block, one prompt for all images; in the model, the trainer and the export."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny_stream
from helpers.prompt_kinds import DEPTH, KINDS, D, make

from keras_cbpnet.config import HeadConfig, PromptConfig, TrainConfig, read_config
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.fake_quant import fake_quantizers
from keras_cbpnet.layers.fixed_prompt import FixedPrompt
from keras_cbpnet.layers.prompts import Prompts
from keras_cbpnet.methods.build import build_model
from keras_cbpnet.models.calibration import calibrate
from keras_cbpnet.models.prompted_classifier import PromptedClassifier
from keras_cbpnet.training.features.cache import FrozenFeatures
from keras_cbpnet.training.trainer import train

pytestmark = pytest.mark.slow  # each builds or trains networks


@pytest.fixture(scope="module")
def images(coloured_images):
    return coloured_images(24, [0, 1, 2, 3])[0]


@pytest.fixture(params=["early", "fixed"])
def kind(request):
    return request.param


@pytest.fixture
def model(kind, images, randomised, tiny_backbone):
    return make(kind, images, randomised, tiny_backbone)


# The layers -----------------------------------------------------------------------------------------------------------


def test_an_early_query_is_the_class_token_that_the_next_block_reads(images, randomised, tiny_backbone):
    backbone = make("two", images, randomised, tiny_backbone).backbone
    x = backbone.embed(images)
    for n in range(1, DEPTH):
        x = backbone.blocks[n - 1](x)
        token = np.asarray(x[:, 0], np.float64)
        expected = token / np.sqrt((token**2).mean(axis=1, keepdims=True) + 1e-6)
        np.testing.assert_allclose(backbone.encode(backbone.embed(images), depth=n), expected, rtol=0, atol=1e-4)
    for depth in (0, DEPTH):
        np.testing.assert_array_equal(
            backbone.encode(backbone.embed(images), depth=depth), backbone.features(images), err_msg=str(depth)
        )


def test_a_fixed_prompt_is_that_of_a_pool_of_one(images, randomised, tiny_backbone):
    fixed = make("fixed", images, randomised, tiny_backbone)
    pool = Prompts(PromptConfig(length=2, expert_length=2, pool=1), D)
    pool.build()
    pool.general.assign(fixed.prompts.general)
    pool.expert.assign(fixed.prompts.expert)
    tokens = fixed.backbone.embed(images)
    expected = pool.encode(fixed.backbone, tokens, fixed.backbone.encode(tokens))[0]
    feature, index, match = fixed.prompts.encode(fixed.backbone, tokens)
    np.testing.assert_allclose(feature, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(index, np.zeros(len(images)))
    np.testing.assert_array_equal(match, np.zeros(len(images)))
    assert index.dtype == tf.int32
    assert fixed.query(images) is None
    assert np.abs(feature - fixed.backbone.features(images)).max() > 1e-2


def test_every_task_goes_on_with_the_fixed_prompt(model, kind, images):
    before = [np.array(variable) for variable in model.prompts.weights]
    taken = model.prompts.begin_task(model.query(images))
    assert taken == {"fixed": 0, "early": 2}[kind]
    if kind == "fixed":
        assert (model.prompts.tasks, model.prompts.newest) == (1, 0)
        for variable, value in zip(model.prompts.weights, before, strict=True):
            np.testing.assert_array_equal(variable, value)


def test_configurations_round_trip():
    layer = FixedPrompt({"length": 3, "g_blocks": (0,), "e_blocks": (2,)}, D)
    assert FixedPrompt.from_config(layer.get_config()).get_config() == layer.get_config()
    assert set(layer.get_config()) - {"name", "trainable", "dtype"} == {"config", "width"}
    config = PromptConfig(query_depth=3)
    assert PromptConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    old = {key: value for key, value in config.to_dict().items() if key != "query_depth"}
    assert PromptConfig.from_dict(old).query_depth == 0
    with pytest.raises(UserError, match="query_depth must not be negative, got -1"):
        PromptConfig(query_depth=-1)


def test_a_run_of_before_is_one_of_two_passes(tmp_path):
    values = TrainConfig(tasks=3).to_dict()
    del values["query_depth"], values["prompt_selection"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_config(tmp_path) == TrainConfig(tasks=3)
    assert (read_config(tmp_path).prompt_selection, read_config(tmp_path).query_depth) == ("key", 0)


# The model ------------------------------------------------------------------------------------------------------------


def test_each_image_on_its_own(model, kind, images):
    features, prompt = (np.asarray(part) for part in model.features(images))
    assert set(prompt.tolist()) == ({0, 1} if kind == "early" else {0})
    for i in range(0, len(images), 5):
        feature, chosen = model.features(images[i : i + 1])
        np.testing.assert_allclose(feature[0], features[i], rtol=0, atol=1e-5)
        assert int(chosen[0]) == prompt[i]
        np.testing.assert_allclose(model(images[i : i + 1])[0], model(images)[i], rtol=0, atol=1e-4)


def test_the_early_query_selects(images, randomised, tiny_backbone):
    model = make("early", images, randomised, tiny_backbone)
    query = np.asarray(model.backbone.encode(model.backbone.embed(images), depth=2))
    np.testing.assert_allclose(model.query(images), query, rtol=0, atol=1e-6)
    key = model.prompts.key.numpy()[:2]
    expected = (query @ (key / np.linalg.norm(key, axis=1, keepdims=True)).T).argmax(axis=1)
    np.testing.assert_array_equal(model.features(images)[1], expected)


def test_a_reloaded_model_is_equal(model, images, tmp_path):
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert reloaded.get_config() == model.get_config()
    for one, other in zip(model.features(images), reloaded.features(images), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_step_trains_the_prompts_and_moves_the_ranges(kind, images, randomised, tiny_backbone):
    model = make(kind, images, randomised, tiny_backbone, quantized=True)
    calibrate(model, model.features, images)
    for layer in fake_quantizers(model):
        low, high = (np.asarray(value) for value in list(layer.range.values())[:2])
        assert np.all(high > low), layer.path
    model.compile(keras.optimizers.SGD(0.1))
    before = {v.path: np.array(v) for v in model.weights}
    label = np.resize([2, 3], 8).astype(np.int32)
    model.head.assign({"class_mean": np.asarray(model.features(images[:4])[0])})
    model.train_step((255 - images[:8], label))
    changed = {v.path.split("/")[-1] for v in model.prompts.weights if np.any(np.array(v) != before[v.path])}
    assert changed == ({"general", "expert"} if kind == "fixed" else {"general", "expert", "key"})
    ranges = [v for layer in fake_quantizers(model) if layer.kind == "activation" for v in layer.range.values()]
    assert np.mean([np.any(np.array(v) != before[v.path]) for v in ranges]) > 0.4


@pytest.mark.parametrize("depth", [6, 9])
def test_more_blocks_than_there_are(depth, tiny_backbone):
    with pytest.raises(UserError, match=f"query_depth {depth} is more than the backbone's 5 blocks"):
        PromptedClassifier(tiny_backbone, PromptConfig(query_depth=depth), HeadConfig())


def test_queries_of_each_depth_are_kept_apart(
    images, randomised, tiny_backbone, coloured_images, tmp_path, monkeypatch
):
    from keras_cbpnet.data import Dataset

    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path))
    backbone = make("two", images, randomised, tiny_backbone).backbone
    (x, y), (x_test, y_test) = (coloured_images(n, [0, 1], 0) for n in (9, 5))
    data = Dataset(x, y.astype(np.int64), x_test, y_test.astype(np.int64), ("a", "b"), image_size=(16, 16))
    caches = {depth: FrozenFeatures(backbone, data, depth=depth) for depth in (0, 2, 3, DEPTH)}
    assert caches[0].identity == caches[DEPTH].identity
    assert len({caches[depth].identity for depth in (0, 2, 3)}) == 3
    expected = backbone.encode(backbone.embed(x), depth=2)
    np.testing.assert_allclose(caches[2].rows("train", np.arange(9)), expected, rtol=0, atol=1e-5)


# The trainer ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "qat"), [("early", False), ("fixed", True)])
def test_a_killed_run_ends_as_it_would_have(kind, qat, stream, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_cbpnet.training.trainer.write_report", lambda *_: None)
    config = stream.config(prompts=True, qat=qat, **KINDS[kind])
    run, killed = tmp_path / "run", tmp_path / "killed"
    metrics = train(config, run, tiny_stream.copied_at("task 1/2:", run, killed))
    model = keras.models.load_model(run / "model.keras")
    assert (model.prompts.query_depth, type(model.prompts)) == {"early": (2, Prompts), "fixed": (None, FixedPrompt)}[
        kind
    ]
    for changes in ({}, {"query_depth": 1}):
        other = stream.config(prompts=True, qat=qat, **changes)
        with pytest.raises(UserError, match="killed holds a run of another configuration"):
            train(other, killed)
    assert train(config, killed)["accuracy_matrix"] == metrics["accuracy_matrix"]
    resumed = keras.models.load_model(killed / "model.keras")
    for one, other in zip(model.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5, err_msg=one.path)


def test_a_fixed_prompt_that_the_first_task_alone_trains(stream, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_cbpnet.training.trainer.write_report", lambda *_: None)
    run, first = tmp_path / "run", tmp_path / "first"
    config = stream.config(prompts=True, prompt_selection="fixed", prompt_tasks=1)
    train(config, run, tiny_stream.copied_at("task 1/2:", run, first))
    start = build_model(config, 4).prompts
    early = build_model(config, 4)
    early.load_weights(next(first.glob("checkpoint-*")) / "model.keras")
    later = keras.models.load_model(run / "model.keras")
    np.testing.assert_array_equal(early.prompts.expert, later.prompts.expert)
    assert np.abs(np.asarray(later.prompts.expert) - np.asarray(start.expert)).max() > 0
