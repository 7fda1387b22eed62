"""As an ordinary Keras model: fit trains the current task's prompts and the head, and nothing else."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.tiny_classifier import PROMPTS, SIZES, C, begin, build, head_state, observe, of, snapshot

from keras_cbpnet.config import HeadConfig
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

pytestmark = pytest.mark.slow  # each builds or trains networks


def with_loss():
    return {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "metrics": ["accuracy"]}


def without_loss():
    return {}


class Trained:
    """A model after two tasks of two classes, with snapshots on the way."""

    def __init__(self, coloured_images, folder):
        self.model = model = build()
        self.backbone = snapshot(model.backbone)
        self.tasks = [coloured_images(21, classes, seed) for seed, classes in enumerate(([0, 1], [2, 3]))]
        images, label = self.tasks[0]
        model.head.standardise(model.batched(model.query, images))
        begin(model, images, label)
        model.compile(keras.optimizers.Adam(5e-3))
        self.first = model.fit(images, label, batch_size=8, epochs=3, verbose=0).history
        self.after_first = snapshot(model.prompts)
        observe(model, images, label)
        images, label = self.tasks[1]
        begin(model, images, label)
        self.before_second = snapshot(model.prompts)
        self.head_before_second = head_state(model)
        model.compile(keras.optimizers.Adam(5e-3), run_eagerly=True)  # the first task was compiled
        self.second = model.fit(images, label, batch_size=8, epochs=3, verbose=0).history
        self.after_second = snapshot(model.prompts)
        self.head_after_second = head_state(model)
        observe(model, images, label)
        self.images = np.concatenate([task[0] for task in self.tasks])
        self.label = np.concatenate([task[1] for task in self.tasks])
        self.logits = model.predict(self.images, batch_size=8, verbose=0)
        self.path = folder / "model.keras"
        model.save(self.path)


@pytest.fixture(scope="module")
def trained(coloured_images, tmp_path_factory):
    return Trained(coloured_images, tmp_path_factory.mktemp("saved"))


# Fit ------------------------------------------------------------------------------------------------------------------


def test_fit_leaves_the_backbone_as_it_was(trained):
    model = trained.model
    assert [v.path for v in model.trainable_variables] == [v.path for v in model.prompts.trainable_variables]
    assert {v.name for v in model.trainable_variables} == {"general", "expert", "key"}
    for path, value in snapshot(trained.model.backbone).items():
        np.testing.assert_array_equal(value, trained.backbone[path], err_msg=path)


def test_a_task_starts_from_the_expert_before_it(trained):
    expert, key = (of(trained.before_second, name) for name in ("expert", "key"))
    np.testing.assert_array_equal(expert[1], of(trained.after_first, "expert")[0])
    query = trained.model.batched(trained.model.query, trained.tasks[1][0])
    direction = (query / np.linalg.norm(query, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(key[1], direction / np.linalg.norm(direction), rtol=0, atol=1e-5)


def test_fit_trains_the_prompts_of_the_current_task_only(trained):
    for name in ("expert", "key"):
        before, after = of(trained.before_second, name), of(trained.after_second, name)
        np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
        assert np.abs(after[1] - before[1]).max() > 1e-3
    moved = np.abs(of(trained.after_second, "general") - of(trained.before_second, "general"))
    assert moved.reshape(len(moved), -1).max(axis=1).min() > 1e-3  # keys and values
    assert of(trained.after_second, "begun") == 2


def test_fit_moves_the_head_and_keeps_its_classes(trained):
    before, after = trained.head_before_second, trained.head_after_second
    assert before["step"] == 9  # 3 epochs of 8 + 8 + 5 images
    assert after["step"] == 18
    for name in ("w1", "w2", "b2", "m_w2", "v_w2", "utility"):
        assert np.abs(after[name] - before[name]).max() > 0, name
    for name in ("class_mask", "class_mean", "class_count"):
        np.testing.assert_array_equal(after[name], before[name])
    np.testing.assert_array_equal(after["class_mask"], [1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(after["class_count"], [11, 10, 11, 10, 0, 0])
    np.testing.assert_array_equal(trained.model.loss_mask, [0, 0, 1, 1, 0, 0])


def test_fit_reports_loss_accuracy_and_rebirths(trained):
    for history in (trained.first, trained.second):
        assert set(history) == {"loss", "accuracy", "replaced"}
        assert history["loss"][-1] < history["loss"][0]
        assert all(0 <= value <= 1 for value in history["accuracy"])
    # Steps 3 to 9 with up to 8 units of age > 2 make a debt of at most 7 * 0.4 = 2.8.
    assert sum(trained.first["replaced"]) == 2
    state = trained.head_after_second
    replaced = sum(trained.first["replaced"]) + sum(trained.second["replaced"])
    assert np.sum(state["age"] < 18) <= replaced
    assert np.sum(state["age"] < 18) >= 1


# Inference ------------------------------------------------------------------------------------------------------------


def test_predict_gives_logits_over_the_classes_seen(trained):
    assert trained.logits.shape == (42, C)
    assert np.all(trained.logits[:, 4:] == -1e9)
    assert np.abs(trained.logits[:, :4]).max() <= 5.001
    assert np.mean(trained.logits.argmax(axis=1) == trained.label) > 0.8


@pytest.mark.parametrize("options", [without_loss, with_loss])
def test_evaluate_agrees_with_predict(trained, options):
    trained.model.compile(keras.optimizers.Adam(), run_eagerly=True, **options())
    found = trained.model.evaluate(trained.images, trained.label, batch_size=8, verbose=0, return_dict=True)
    z = trained.logits.astype(np.float64)
    log_total = np.log(np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)) + z.max(axis=1)
    expected = np.mean(log_total - z[np.arange(len(z)), trained.label])
    assert expected > 0.01
    assert abs(found["loss"] - expected) <= 1e-4
    assert abs(found["accuracy"] - np.mean(z.argmax(axis=1) == trained.label)) <= 1e-6


@pytest.mark.parametrize("options", [without_loss, with_loss])
def test_an_ordinary_fit_with_validation(options, coloured_images):
    model = build()
    images, label = coloured_images(8, [0, 1])
    begin(model, images, label)
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True, **options())
    history = model.fit(images, label, validation_data=(images, label), batch_size=8, epochs=2, verbose=0).history
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(history)
    # The only batch of the second epoch is seen by the model as the first epoch left it, and with the same prompt.
    assert abs(history["loss"][1] - history["val_loss"][0]) <= 1e-4
    assert history["accuracy"][1] == pytest.approx(history["val_accuracy"][0])


def test_each_image_on_its_own(trained):
    model, images = trained.model, trained.images
    features, prompt = (np.array(part) for part in model.features(images))
    assert set(prompt.tolist()) == {0, 1}
    for i in range(0, len(images), 9):
        feature, chosen = model.features(images[i : i + 1])
        np.testing.assert_allclose(feature[0], features[i], rtol=0, atol=1e-5)
        assert int(chosen[0]) == prompt[i]
        np.testing.assert_allclose(model(images[i : i + 1])[0, :4], trained.logits[i, :4], rtol=0, atol=1e-4)


def test_features_are_those_behind_the_chosen_prompt(trained):
    model, images = trained.model, trained.images
    tokens = model.backbone.embed(images)
    query = model.backbone.encode(tokens)
    np.testing.assert_allclose(model.query(images), query, rtol=0, atol=1e-6)
    key = model.prompts.key.numpy()[:2]
    expected = (query.numpy() @ (key / np.linalg.norm(key, axis=1, keepdims=True)).T).argmax(axis=1)
    features, prompt = model.features(images)
    np.testing.assert_array_equal(prompt, expected)
    np.testing.assert_allclose(
        features, model.backbone.encode(tokens, model.prompts.prefixes(tf.constant(expected, tf.int32))), atol=1e-6
    )
    assert np.abs(features - query).max() > 1e-2
    for index in (0, 1):
        forced, used = model.features(images, index)
        assert set(used.numpy().tolist()) == {index}
        np.testing.assert_allclose(forced[expected == index], features[expected == index], rtol=0, atol=1e-5)


def test_batched_equals_one_call(trained):
    model, images = trained.model, trained.images
    np.testing.assert_allclose(model.batched(model.query, images, 5), model.query(images), rtol=0, atol=1e-5)


# Saving ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reloaded(trained):
    return keras.models.load_model(trained.path)


def test_a_reloaded_model_is_equal(trained, reloaded):
    assert reloaded.get_config() == trained.model.get_config()
    for variable, other in zip(trained.model.weights, reloaded.weights, strict=True):
        assert variable.name == other.name
        np.testing.assert_array_equal(variable.numpy(), other.numpy(), err_msg=variable.path)
    np.testing.assert_array_equal(reloaded(trained.images), trained.model(trained.images))


def test_a_reloaded_model_predicts_the_same(trained, reloaded):
    np.testing.assert_allclose(
        reloaded.predict(trained.images, batch_size=8, verbose=0), trained.logits, rtol=0, atol=1e-4
    )


def test_a_reloaded_model_goes_on_as_the_saved_one_would(trained, coloured_images, tmp_path):
    images, label = coloured_images(8, [4, 5], seed=7)
    model = keras.models.load_model(trained.path)
    begin(model, images, label)
    model.compile(keras.optimizers.SGD(0.1))
    for _ in range(3):
        model.train_step((images, label))
    model.save(tmp_path / "later.keras")
    later = keras.models.load_model(tmp_path / "later.keras")
    assert later.prompts.tasks == 3
    later.compile(keras.optimizers.SGD(0.1))
    for _ in range(6):  # with rebirths: 2 units are due
        results = [float(m.train_step((images, label))["replaced"]) for m in (model, later)]
    assert results[1] >= 1
    for variable, other in zip(model.weights, later.weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), rtol=0, atol=1e-5, err_msg=variable.path)


def test_config_round_trip():
    model = PromptedClassifier(
        SIZES, PROMPTS, HeadConfig(block="mlp", units=8, slots=C), quantized=True, key_weight=0.25
    )
    config = model.get_config()
    assert {"backbone", "prompts", "head", "quantized", "key_weight"} <= set(config)
    copy = PromptedClassifier.from_config(config)
    assert copy.get_config() == config
    assert (copy.backbone.config, copy.prompts.config, copy.head.config) == (SIZES, PROMPTS, model.head.config)
    from_json = PromptedClassifier.from_config(json.loads(json.dumps(config)))
    assert (from_json.backbone.config, from_json.prompts.config) == (SIZES, PROMPTS)


def test_a_model_saved_under_the_first_name_of_class_and_module_loads():
    model = PromptedClassifier(SIZES, PROMPTS, HeadConfig(block="mlp", units=8, slots=C))
    names = {"module": "keras_cbpnet.models.cbpnet", "class_name": "CBPNet", "registered_name": "keras_cbpnet>CBPNet"}
    assert keras.saving.serialize_keras_object(model)["registered_name"] == names["registered_name"]
    old = keras.saving.deserialize_keras_object({**names, "config": model.get_config()})
    assert type(old) is PromptedClassifier
    assert old.get_config() == model.get_config()
