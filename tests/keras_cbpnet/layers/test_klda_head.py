"""KLDA against NumPy on all images at once: discriminant analysis of random Fourier features."""

import keras
import numpy as np

from keras_cbpnet.layers.klda_head import KLDAHead

C, M = 8, 25  # class slots, random features


def built(first, **sizes):
    """A head of fixed random features, standardised by the first task's."""
    keras.utils.set_random_seed(0)
    head = KLDAHead(C, name="head", **sizes)
    head.build((None, first.shape[1]))
    head.standardise(first)
    return head


def klda(tasks, **sizes):
    head = built(tasks[0][0], **sizes)
    for feature, label in tasks:
        head.open(np.unique(label))
        head.learn(head.add(feature, label))
    return head


def test_klda_is_the_discriminant_analysis_of_all_images_fourier_features(data, tasks):
    feature, label = data[0].astype(np.float64), data[1]
    head = klda(tasks, projected=M, reach=0.3)
    R, phase = np.asarray(head.projection, np.float64), np.asarray(head.phase, np.float64)
    gamma = 0.3 / tasks[0][0].astype(np.float64).var(axis=0).sum()
    phi = np.sqrt(2 / M) * np.cos(np.sqrt(2 * gamma) * feature @ R + phase)
    mean = np.stack([phi[label == c].mean(axis=0) for c in range(6)])
    centred = phi - mean[label]
    covariance = centred.T @ centred / (len(label) - 6)
    covariance = 0.99 * covariance + 0.01 * np.trace(covariance) / M * np.eye(M)
    # minus half the squared Mahalanobis distance, but for what all classes have in common
    distance = [np.einsum("nm,mk,nk->n", phi - m, np.linalg.inv(covariance), phi - m) for m in mean]
    expected = -0.5 * np.stack(distance, axis=1)
    logits = np.asarray(head(data[0]))[:, :6]
    middle = [scores - scores.mean(axis=1, keepdims=True) for scores in (logits, expected)]
    np.testing.assert_allclose(*middle, rtol=1e-3, atol=2e-3)
    assert np.mean(logits.argmax(axis=1) == label) > 0.6


def test_klda_approximates_the_kernel(data, tasks):
    head = built(tasks[0][0], projected=1000, reach=0.3)
    phi = np.asarray(head.expand(data[0][:30]), np.float64)
    apart = np.sum((data[0][:30, None].astype(np.float64) - data[0][:30]) ** 2, axis=2)
    kernel = np.exp(-0.3 * apart / tasks[0][0].astype(np.float64).var(axis=0).sum())
    assert kernel.min() < 0.5
    np.testing.assert_allclose(phi @ phi.T, kernel, rtol=0, atol=0.13)  # four deviations, of at most 1 / sqrt(1,000)


def test_klda_of_one_image_at_a_time_is_that_of_all_at_once(data, tasks):
    singly = [(feature[i : i + 1], label[i : i + 1]) for feature, label in tasks for i in range(len(label))]
    head = built(tasks[0][0], projected=M, reach=0.3)
    head.open(range(6))
    for feature, label in singly[::-1]:
        statistics = head.add(feature, label)
    head.learn(statistics)
    np.testing.assert_allclose(head(data[0]), klda(tasks, projected=M, reach=0.3)(data[0]), rtol=1e-3, atol=2e-3)


def test_klda_of_few_images_stays_finite():
    feature = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
    head = klda([(feature[slot : slot + 1], np.int32([slot])) for slot in range(3)], projected=M)
    logits = np.asarray(head(feature))
    assert np.abs(logits[:, :3]).max() < 10
    np.testing.assert_array_equal(logits.argmax(axis=1), [0, 1, 2])
