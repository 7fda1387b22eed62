"""One training step of the prompts, and what a task opens before it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.tiny_classifier import C, begin, build, head_state, of, snapshot

from firmware_host.bundle import BLOCKS
from keras_cbpnet.config import HeadConfig, PromptConfig
from keras_cbpnet.head.equations import masked
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

pytestmark = pytest.mark.slow  # each builds or trains networks


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
def test_the_prompts_gradient_is_that_of_the_whole_loss(block, replay, coloured_images, randomised):
    model = build(block, key_weight=0.3)
    images, label = coloured_images(8, [0, 1, 2], seed=3)
    begin(model, images, label)
    begin(model, images, label, compete=[0, 1, 2, 4])
    randomised(model.prompts)  # the key away from the mean direction, where its gradient is 0
    rng = np.random.default_rng(0)
    for name in ("w2", "b2", "w3", "b3"):
        if name in model.head.state:
            model.head.assign({name: rng.normal(0, 0.2, model.head.state[name].shape)})
    model.head.assign({"class_mean": rng.normal(0, 1, (C, 16))})
    label[2] = -1
    x, rows, rows_label = images.astype(np.float32), None, label
    if replay:
        rows, extra = rng.normal(size=(4, 16)).astype(np.float32), np.int32([4, -1, 0, 1])
        x, rows_label = {"images": x, "replay_feature": rows, "replay_label": extra}, np.concatenate([label, extra])
    state, variables = model.head.values(), model.prompts.trainable_variables

    with tf.GradientTape() as tape:
        tokens = model.backbone.embed(images)
        query = model.backbone.encode(tokens)
        prefixes = model.prompts.prefixes(tf.ones(8, tf.int32))
        feature = model.backbone.encode(tokens, prefixes)
        every = feature if rows is None else tf.concat([feature, rows], axis=0)
        logits = masked(model.head.equations.infer(state, every)["logits"], model.loss_mask.numpy())
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(np.maximum(rows_label, 0), logits)
        entropy = tf.reduce_sum(tf.where(rows_label >= 0, losses, 0.0)) / np.sum(rows_label >= 0)
        direction = model.prompts.key.value[1] / tf.norm(model.prompts.key.value[1])
        match = tf.reduce_mean(tf.linalg.matvec(query / tf.norm(query, axis=1, keepdims=True), direction))
        loss = entropy - 0.3 * match
    expected = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, [v.value for v in variables])]

    before = [np.array(variable.numpy()) for variable in variables]
    model.compile(keras.optimizers.SGD(1.0))
    result = model.train_step((x, label))
    assert abs(float(result["loss"]) - float(entropy)) <= 1e-5
    for variable, start, gradient in zip(variables, before, expected, strict=True):
        assert np.abs(gradient).max() > 1e-3, variable.path
        np.testing.assert_allclose(start - variable.numpy(), gradient, rtol=0, atol=1e-5, err_msg=variable.path)
    assert np.all(expected[1][[0, 2]] == 0)  # experts of the other tasks


def test_unlabelled_rows_train_the_key_alone(coloured_images):
    model = build()
    images, label = coloured_images(8, [0, 1])
    begin(model, images, label)
    model.prompts.key.assign(model.prompts.key + 0.3)  # away from the mean direction, where its gradient is 0
    before, state = snapshot(model.prompts), head_state(model)
    model.compile(keras.optimizers.SGD(1.0))
    result = model.train_step((images, np.full_like(label, -1)))
    assert float(result["loss"]) == 0
    after = snapshot(model.prompts)
    for name in ("general", "expert"):
        np.testing.assert_array_equal(of(after, name), of(before, name))
    assert np.abs(of(after, "key") - of(before, "key"))[0].max() > 1e-3
    np.testing.assert_array_equal(head_state(model)["w1"], state["w1"])


def test_begin_task_opens_the_slots_and_masks_the_loss(coloured_images):
    model = build()
    images, _ = coloured_images(8, [0, 1])
    model.begin_task(model.batched(model.query, images), [0, 1])
    np.testing.assert_array_equal(model.head.state["class_mask"], [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(model.loss_mask, [1, 1, 0, 0, 0, 0])
    model.begin_task(model.batched(model.query, images), [3], compete=[0, 1, 3])
    np.testing.assert_array_equal(model.head.state["class_mask"], [1, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(model.loss_mask, [1, 1, 0, 1, 0, 0])
    model.begin_task(model.batched(model.query, images), [2])
    np.testing.assert_array_equal(model.head.state["class_mask"], [1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(model.loss_mask, [0, 0, 1, 0, 0, 0])
    with pytest.raises(ValueError, match="all 3 expert prompts are in use"):
        model.begin_task(model.batched(model.query, images), [4])


def test_dual_prompts_default_blocks_fit_a_backbone_of_five(tiny_backbone, coloured_images):
    model = PromptedClassifier(tiny_backbone, PromptConfig(), HeadConfig(units=4, slots=4))
    model.build()
    images, label = coloured_images(4, [0, 1])
    begin(model, images, label)
    assert set(model.prompts.prefixes(tf.zeros(2, tf.int32))) == {0, 1, 2, 3, 4}
    features, prompt = model.features(images)
    assert features.shape == (4, 16)
    np.testing.assert_array_equal(prompt, [0, 0, 0, 0])
    assert np.abs(features - model.query(images)).max() > 1e-4
