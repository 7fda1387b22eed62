"""The rivals' heads against NumPy on all images at once: SLDA, RanPAC, nearest class mean, linear classifier."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.head.standardise import mean_and_scale
from keras_cbpnet.layers.klda_head import KLDAHead
from keras_cbpnet.layers.ranpac_head import RIDGES, RanPACHead
from keras_cbpnet.layers.slda_head import SLDAHead
from keras_cbpnet.methods.method import Seen
from keras_cbpnet.tables import METHODS

# Dimensions: N images, d feature size, M random features, C class slots.
d, C, M = 6, 8, 25
CONFIG = TrainConfig(batch=8, head_epochs=3, learning_rate=0.02)


def built(head):
    head.build((None, d))
    return head


def observed(tasks):
    statistics = ClassStatistics.empty(C, d)
    for feature, label in tasks:
        statistics.update_all(feature, label)
    return statistics


# The layers -----------------------------------------------------------------------------------------------------------


MAKERS = [
    SLDAHead,
    lambda C, **kwargs: RanPACHead(C, projected=M, **kwargs),
    lambda C, **kwargs: KLDAHead(C, projected=M, **kwargs),
]


@pytest.mark.parametrize("make", MAKERS, ids=["slda", "ranpac", "klda"])
def test_head_layer(make, data, checked):
    head = built(make(C, name="head"))
    rng = np.random.default_rng(4)
    for variable in head.variables:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    head.class_mask.assign(np.arange(C) % 2)
    logits = checked(head, data[0][:5], (5, C))
    assert np.all(logits[:, ::2] == -1e9)
    assert np.abs(logits[:, 1::2]).max() < 1e4
    assert head.trainable_variables == []


def test_mean_and_scale_keep_flat_dimensions_from_exploding(data):
    feature = data[0].copy()
    feature[:, 1] = 2
    mean, scale = mean_and_scale(feature)
    np.testing.assert_allclose(mean, feature.mean(axis=0))
    deviation = feature.std(axis=0)
    np.testing.assert_allclose(np.delete(scale, 1), np.delete(deviation, 1))
    np.testing.assert_allclose(scale[1], 0.1 * np.sqrt(np.mean(deviation**2)))
    assert mean_and_scale(np.ones((3, 2)))[1].min() == pytest.approx(0.1)


# SLDA -----------------------------------------------------------------------------------------------------------------


def slda(tasks):
    head, statistics = built(SLDAHead(C, name="head")), ClassStatistics.empty(C, d)
    for feature, label in tasks:
        statistics.update_all(feature, label)
        head.open(np.unique(label))
        head.learn(statistics)
    return head


def test_slda_is_that_of_all_images_at_once(data, tasks):
    feature, label = data[0].astype(np.float64), data[1]
    mean = np.stack([feature[label == c].mean(axis=0) for c in range(6)])
    centred = feature - mean[label]
    covariance = centred.T @ centred / (len(label) - 6)
    covariance = 0.99 * covariance + 0.01 * np.trace(covariance) / d * np.eye(d)
    inverse = np.linalg.inv(covariance)
    expected = feature @ inverse @ mean.T - 0.5 * np.einsum("ci,ij,cj->c", mean, inverse, mean)
    logits = np.asarray(slda(tasks)(data[0]))
    np.testing.assert_allclose(logits[:, :6], expected, rtol=1e-4, atol=1e-3)
    assert np.all(logits[:, 6:] == -1e9)
    assert np.mean(logits.argmax(axis=1) == label) > 0.6


def test_slda_does_not_depend_on_the_order(data, tasks):
    rng = np.random.default_rng(1)
    orders = [rng.permutation(len(label)) for _, label in tasks]
    shuffled = [(feature[order], label[order]) for (feature, label), order in zip(tasks, orders)][::-1]
    np.testing.assert_allclose(slda(shuffled)(data[0]), slda(tasks)(data[0]), rtol=1e-4, atol=1e-3)


def test_slda_of_one_image_a_class_is_the_nearest_mean():
    feature = np.random.default_rng(2).normal(size=(4, d)).astype(np.float32)
    head = slda([(feature, np.arange(4, dtype=np.int32))])
    seen = np.random.default_rng(3).normal(size=(50, d)).astype(np.float32)
    expected = np.linalg.norm(seen[:, None] - feature, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(np.asarray(head(seen)).argmax(axis=1), expected)


# RanPAC ---------------------------------------------------------------------------------------------------------------


def test_ranpac_is_the_ridge_regression_of_all_images(data, tasks):
    keras.utils.set_random_seed(0)
    head = built(RanPACHead(C, projected=M, name="head"))
    head.standardise(tasks[0][0])
    mean, scale = mean_and_scale(tasks[0][0].astype(np.float64))
    projection = np.asarray(head.projection, np.float64)
    assert abs(projection.std() - 1) < 0.15

    def hidden(feature):
        return np.maximum((feature - mean) / scale @ projection, 0)

    target, chosen = np.eye(C), []
    gram, cross = np.zeros((M, M)), np.zeros((M, C))
    for index, (feature, label) in enumerate(tasks):
        head.open(np.unique(label))
        ridge = head.learn(feature, label, np.random.default_rng(index))
        held = np.random.default_rng(index).permutation(len(label))[: len(label) // 5]
        kept = np.setdiff1d(np.arange(len(label)), held)
        rows = hidden(feature[kept])
        tried, answer = rows.T @ rows + gram, rows.T @ target[label[kept]] + cross
        errors = []
        for power in range(-4, 9):
            weights = np.linalg.solve(tried + 10.0**power * np.eye(M), answer)
            errors.append(np.mean((hidden(feature[held]) @ weights - target[label[held]]) ** 2))
        assert ridge == 10.0 ** (int(np.argmin(errors)) - 4)
        chosen.append(ridge)
        gram += hidden(feature).T @ hidden(feature)
        cross += hidden(feature).T @ target[label]
    assert min(RIDGES) < min(chosen) <= max(chosen) < max(RIDGES)

    everything = hidden(data[0])
    np.testing.assert_allclose(head.gram, everything.T @ everything, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(head.target, everything.T @ target[data[1]], rtol=1e-4, atol=1e-2)
    expected = everything @ np.linalg.solve(gram + chosen[-1] * np.eye(M), cross)
    logits = np.asarray(head(data[0]))
    np.testing.assert_allclose(logits[:, :6], expected[:, :6], rtol=0, atol=1e-3)
    assert np.mean(logits.argmax(axis=1) == data[1]) > 0.6


def test_ranpac_of_few_images_stays_finite():
    head = built(RanPACHead(C, projected=M, name="head"))
    feature = np.random.default_rng(2).normal(size=(3, d)).astype(np.float32)
    head.standardise(feature[:1])  # no deviation to scale by
    for slot in range(3):
        head.open([slot])
        assert head.learn(feature[slot : slot + 1], np.int32([slot]), np.random.default_rng(0)) == 1  # none to hold out
    logits = np.asarray(head(feature))
    assert np.abs(logits[:, :3]).max() < 10
    np.testing.assert_array_equal(logits.argmax(axis=1), [0, 1, 2])


# Nearest class mean ---------------------------------------------------------------------------------------------------


def test_ncm_is_the_nearest_class_mean_by_cosine(data, tasks):
    head = built(METHODS["ncm"]().head(CONFIG, C))
    head.standardise(tasks[0][0])
    head.open(range(6))
    head.observe_all(observed(tasks))
    assert list(METHODS["ncm"]().learn_head(SimpleNamespace(head=head), Seen(*data, None, None), CONFIG)) == []
    mean, scale = tasks[0][0].mean(axis=0), tasks[0][0].std(axis=0)
    x = (data[0] - mean) / scale
    prototype = np.stack([x[data[1] == c].mean(axis=0) for c in range(6)])
    lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(prototype, axis=1)
    logits = np.asarray(head(data[0]))
    np.testing.assert_allclose(logits[:, :6], 20 * x @ prototype.T / lengths, rtol=0, atol=1e-4)
    assert np.all(logits[:, 6:] == -1e9)


# The linear classifier ------------------------------------------------------------------------------------------------


def softmax_regression(x, label, mask, weights, rng):
    """Adam (Kingma and Ba 2015), made anew, on the task's batches; a row of loss and accuracy an epoch."""
    W, b = weights
    m, v, t, rows = [np.zeros_like(W), np.zeros_like(b)], [np.zeros_like(W), np.zeros_like(b)], 0, []
    for _ in range(CONFIG.head_epochs):
        order, losses, hits = rng.permutation(len(label)), [], []
        for start in range(0, len(order), CONFIG.batch):
            chosen = order[start : start + CONFIG.batch]
            z = np.where(mask > 0, x[chosen] @ W + b, -1e9)
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            losses.append(-np.mean(np.log(p[np.arange(len(chosen)), label[chosen]])))
            hits.append(np.mean(z.argmax(axis=1) == label[chosen]))
            error = (p - np.eye(C)[label[chosen]]) / len(chosen)
            t += 1
            for i, (parameter, g) in enumerate(((W, x[chosen].T @ error), (b, error.sum(axis=0)))):
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + 0.001 * g**2
                parameter -= CONFIG.learning_rate * (m[i] / (1 - 0.9**t)) / (np.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
        rows.append({"loss": np.mean(losses), "accuracy": np.mean(hits), "replaced": 0})
    return rows


def test_finetune_is_softmax_regression_task_after_task(data, tasks):
    method = METHODS["finetune"]()
    head = built(method.head(CONFIG, C))
    model = SimpleNamespace(head=head)
    head.standardise(tasks[0][0])
    mean, scale = tasks[0][0].mean(axis=0, dtype=np.float64), tasks[0][0].std(axis=0, dtype=np.float64)
    weights = np.zeros((d, C)), np.zeros(C)
    for index, (feature, label) in enumerate(tasks):
        model.loss_mask = np.isin(np.arange(C), label).astype(np.float32)
        head.open(np.unique(label))
        method.begin_task(model)
        rng = np.random.default_rng(index)
        found = list(method.learn_head(model, Seen(feature, label, None, rng), CONFIG))
        x = (feature.astype(np.float64) - mean) / scale
        expected = softmax_regression(x, label, model.loss_mask, weights, np.random.default_rng(index))
        assert expected[-1]["loss"] < expected[0]["loss"]
        for row, other in zip(found, expected, strict=True):
            assert row == pytest.approx(other, abs=1e-4)
    np.testing.assert_allclose(head.state["w3"], weights[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(head.state["b3"], weights[1], rtol=0, atol=1e-4)
    logits = ((data[0] - mean) / scale) @ weights[0] + weights[1]
    np.testing.assert_allclose(np.asarray(head(data[0]))[:, :6], logits[:, :6], rtol=0, atol=1e-3)
