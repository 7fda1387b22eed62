"""The prompts: hand-over between tasks, selection image by image, which block gets which prefix."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cbpnet.config import PromptConfig
from keras_cbpnet.layers.prompts import Prompts, assemble

# Dimensions: B images, P expert prompts, L rows of a prefix, D width.
P, L, D = 4, 3, 6
CONFIG = PromptConfig(length=L, expert_length=L, g_blocks=(0, 2), e_blocks=(1, 4, 5), pool=P)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True))


def values(variable):
    return np.array(variable.numpy())


@pytest.fixture
def prompts():
    keras.utils.set_random_seed(0)
    layer = Prompts(CONFIG, D)
    layer.build((None, D))
    return layer


@pytest.fixture
def queries():
    """One cloud of queries a task, each in a direction of its own."""
    rng = np.random.default_rng(1)
    return [(np.eye(D)[t] * 4 + rng.normal(0, 0.5, (30, D))).astype(np.float32) for t in range(P + 1)]


def test_prompts_layer(checked):
    layer = Prompts(CONFIG, D)
    layer.build((None, D))
    layer.begun.assign(3)
    query = np.random.default_rng(0).normal(size=(16, D)).astype(np.float32)
    index = checked(layer, query, (16,))
    assert index.dtype == np.int32
    assert set(index.tolist()) == {0, 1, 2}


def test_the_first_task_keeps_its_own_start_and_takes_the_mean_direction_as_key(prompts, queries):
    before = values(prompts.expert)
    key = values(prompts.key)
    assert prompts.tasks == 0
    scaled = queries[0] * np.linspace(1, 9, len(queries[0]), dtype=np.float32)[:, None]
    assert prompts.begin_task(scaled) == 0
    assert prompts.tasks == 1
    np.testing.assert_array_equal(values(prompts.expert), before)
    # The directions are averaged, so the length of a query does not matter.
    np.testing.assert_allclose(values(prompts.key)[0], unit(unit(queries[0]).mean(axis=0)), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(values(prompts.key)[1:], key[1:])


def test_a_task_starts_from_the_prompt_before_it(prompts, queries):
    prompts.begin_task(queries[0])
    trained = values(prompts.expert)
    trained[0] += 0.5
    prompts.expert.assign(trained)
    first_key = values(prompts.key)[0]
    general = values(prompts.general)
    assert prompts.begin_task(queries[1]) == 1
    expert = values(prompts.expert)
    np.testing.assert_array_equal(expert[1], trained[0])
    np.testing.assert_array_equal(expert[[0, 2, 3]], trained[[0, 2, 3]])
    np.testing.assert_array_equal(values(prompts.key)[0], first_key)
    np.testing.assert_allclose(values(prompts.key)[1], unit(unit(queries[1]).mean(axis=0)), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(values(prompts.general), general)


def test_a_used_up_pool_says_so_and_changes_nothing(prompts, queries):
    for task in range(P):
        assert prompts.begin_task(queries[task]) == task
    before = [values(variable) for variable in prompts.variables]
    with pytest.raises(ValueError, match=f"all {P} expert prompts are in use; configure a larger pool"):
        prompts.begin_task(queries[P])
    for variable, value in zip(prompts.variables, before, strict=True):
        np.testing.assert_array_equal(values(variable), value)
    assert prompts.tasks == P


def test_each_image_selects_its_own_prompt(prompts, queries):
    for task in range(3):
        prompts.begin_task(queries[task])
    mixed = np.concatenate([queries[2][:5], queries[0][:5], queries[1][:5], 7 * queries[2][5:9]])
    expected = [2] * 5 + [0] * 5 + [1] * 5 + [2] * 4
    chosen = prompts(mixed).numpy()
    np.testing.assert_array_equal(chosen, expected)
    assert chosen.dtype == np.int32
    for i in range(len(mixed)):
        assert int(prompts(mixed[i : i + 1])[0]) == expected[i]


def test_similarity_is_the_cosine(prompts, queries):
    prompts.begin_task(queries[0])
    expected = unit(queries[1]) @ unit(values(prompts.key)).T
    np.testing.assert_allclose(prompts.similarity(queries[1]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("begun", [0, 1, 2])
def test_an_unused_prompt_is_never_selected(begun, prompts):
    query = np.random.default_rng(3).normal(size=(50, D)).astype(np.float32)
    key = np.tile(query[:1], (P, 1))  # the unused keys are as near as can be
    key[:2] = -query[0], -query[0]
    prompts.key.assign(key)
    prompts.begun.assign(begun)
    chosen = prompts(query).numpy()
    assert set(chosen.tolist()) <= set(range(max(begun, 1)))


def test_prefixes_go_to_their_blocks(prompts):
    rng = np.random.default_rng(2)
    for variable in (prompts.general, prompts.expert):
        variable.assign(rng.normal(size=variable.shape))
    general, expert = values(prompts.general), values(prompts.expert)
    index = np.array([2, 0, 2], np.int32)
    found = prompts.prefixes(tf.constant(index))
    assert set(found) == {0, 1, 2, 4, 5}
    for i, block in enumerate(CONFIG.g_blocks):
        for j, part in enumerate(found[block]):
            assert part.shape == (3, L, D)
            for row in part.numpy():
                np.testing.assert_array_equal(row, general[2 * i + j])
    for i, block in enumerate(CONFIG.e_blocks):
        for j, part in enumerate(found[block]):
            assert part.shape == (3, L, D)
            for row, prompt in zip(part.numpy(), index, strict=True):
                np.testing.assert_array_equal(row, expert[prompt, 2 * i + j])


def test_assemble_takes_the_experts_as_they_are():
    general = np.arange(4 * L * D, dtype=np.float32).reshape(4, L, D)
    expert = -np.arange(2 * 6 * L * D, dtype=np.float32).reshape(2, 6, L, D)
    found = assemble(CONFIG, tf.constant(general), tf.constant(expert))
    np.testing.assert_array_equal(found[2][1], np.stack([general[3], general[3]]))
    np.testing.assert_array_equal(found[4][0], expert[:, 2])


def test_gradients_reach_the_selected_prompts_and_their_key_only(prompts, queries):
    prompts.begin_task(queries[0])
    prompts.begin_task(queries[1])
    variables = [prompts.general, prompts.expert, prompts.key]
    assert {v.path for v in prompts.trainable_variables} == {v.path for v in variables}
    assert [v.path for v in prompts.non_trainable_variables] == [prompts.begun.path]
    with tf.GradientTape() as tape:
        found = prompts.prefixes(tf.constant([1, 1]))
        loss = sum(tf.reduce_sum(part**2) for pair in found.values() for part in pair)
        loss -= tf.reduce_mean(prompts.similarity(queries[2])[:, 1])
    general, expert, key = (
        tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, [v.value for v in variables])
    )
    for gradient in (general, expert[1]):
        assert np.abs(gradient).reshape(len(gradient), -1).max(axis=1).min() > 0
    assert np.abs(key[1]).max() > 1e-3
    others = [0, 2, 3]
    assert np.all(expert[others] == 0)
    assert np.all(key[others] == 0)


def test_unknown_keys_are_refused():
    with pytest.raises(ValueError, match="PromptConfig: unknown key lenght; known keys: length"):
        Prompts({"lenght": 3}, D)
