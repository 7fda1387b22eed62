"""From a feature to the probabilities of the classes known, as TensorFlow operations with constants.

What a device computes with its head's interpreter and, in NumPy, with its bank: `Mixture.probabilities`.

Dimensions: C classes known, K slots of the bank, d features, h hidden units, r directions of a slot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from firmware_host.shared.bank import Bank
from firmware_host.shared.bank.bank import NONE, TEMPERATURE
from firmware_host.shared.bank.metric import CROWD, SETTLED
from keras_cbpnet.export.frozen.learned import Learned
from keras_cbpnet.export.frozen.second_look import Of, SecondLook, likeliest
from keras_cbpnet.head.equations import COSINE_EPSILON

EXCLUDED = -1e9  # logit of a class of which no image was learned
LEAST = 1e-37  # probability that has a logarithm in float32
QUANTUM = 1.0 / 256.0


def probabilities(learned: Learned, feature: Any) -> Any:
    """Return probabilities [1, C] for a feature [1, d], as the backbone gives it, dequantized."""
    head, mixture = learned.bundle.head, learned.mixture
    if learned.offset.any():
        feature = feature - learned.offset
    x = (feature - np.array(head["feature_mean"], np.float32)) / np.array(head["feature_scale"], np.float32)
    if mixture is None or not len(mixture.bank.labels):
        return block(learned, x)
    share = mixture.weight
    mixed = (1.0 - share) * bank(mixture.bank, len(learned.classes), x)
    if share:
        mixed = mixed + share * block(learned, x)
    exponent = float(np.exp(mixture.temperature.sure[0]))
    return tf.nn.softmax(exponent * tf.math.log(tf.maximum(mixed, LEAST)))


def block(learned: Learned, x: Any) -> Any:
    """Return the block's probabilities [1, C] for a standardised feature [1, d]; `Head.infer` with constants."""
    head, known = learned.bundle.head, len(learned.classes)
    w, kind = learned.head, head["block"]

    def through(rows: Any) -> Any:  # (n, d) -> (n, d), or the logits of `mlp`
        hidden = tf.nn.relu(tf.matmul(rows, w["w1"]) + w["b1"])
        return tf.matmul(hidden, w["w2"]) + w["b2"]

    def unit(rows: Any) -> Any:
        return rows / tf.sqrt(tf.reduce_sum(rows * rows, axis=1, keepdims=True) + COSINE_EPSILON)

    if kind == "mlp":
        w = {**w, "w2": w["w2"][:, :known], "b2": w["b2"][:known]}
        logits = through(x)
    elif kind == "residual":
        logits = tf.matmul(x + through(x), w["w3"][:, :known]) + w["b3"][:known]
    else:
        mean, scale = (np.array(head[key], np.float32) for key in ("feature_mean", "feature_scale"))
        with tf.init_scope():  # computed now, once: a constant of the graph
            means = tf.constant((w["class_mean"][:known] - mean) / scale)
            prototypes = (head["logit_scale"] * unit(means + through(means))).numpy()
        logits = tf.matmul(unit(x + through(x)), prototypes, transpose_b=True)
    learned_any = w["class_mask"][:known] > 0
    if not learned_any.all():
        logits = logits * learned_any.astype(np.float32) + np.where(learned_any, 0.0, EXCLUDED).astype(np.float32)
    return tf.nn.softmax(logits)


def bank(known: Bank, classes: int, x: Any) -> Any:
    """Return the bank's probabilities [1, C] of C = `classes` for a standardised feature [1, d]; see `Bank.judge`."""
    z, q, of, prior = _first_look(known, classes, x)
    z = SecondLook.of(known.metric(), prior, known.sums.count, len(known.labels), of)(z, q)
    return tf.nn.softmax(TEMPERATURE * z)


def first_look(known: Bank, classes: int, x: Any) -> Any:
    """Return the scores [1, C] before the likeliest classes are judged again; arguments as of `bank`."""
    return _first_look(known, classes, x)[0]


def _first_look(known: Bank, classes: int, x: Any) -> tuple[Any, Any, Of, NDArray[Any]]:
    """Return scores [1, C], the image in the metric's space [1, d], what takes slots to classes, and priors [K]."""
    metric, count, labels = known.metric(), known.sums.count, known.labels
    slots = known.binding[labels] - 1

    def of(values: NDArray[Any]) -> NDArray[np.float32]:  # of slots, [K, ...], to classes, [C, ...]
        found = np.zeros((classes, *values.shape[1:]), np.float32)
        found[labels] = values[slots]
        return found

    young = np.exp(-count / SETTLED) * (count > 0)  # (K,)
    prior = -CROWD * young * np.log(1.0 + young.sum() - young)
    constant = of(prior - 0.5 * (metric.determinant + metric.length))
    constant[np.setdiff1d(np.arange(classes), labels)] = NONE

    q = tf.matmul(x, metric.whitener)  # (1, d)
    squared = tf.matmul(q * q, of(metric.precision), transpose_b=True)  # (1, C)
    _, r, d = metric.basis.shape
    if r:
        along = tf.matmul(q, of(metric.basis).reshape(-1, d), transpose_b=True) - of(metric.along).reshape(-1)
        along = tf.reshape(along * along, [classes, r]) * of(metric.gain)  # (C, r)
        squared = squared + tf.reshape(tf.reduce_sum(along, axis=1), [1, classes])
    return constant + tf.matmul(q, of(metric.weighted), transpose_b=True) - 0.5 * squared, q, of, prior


def told_apart(found: Any) -> Any:
    """Return probabilities [1, C] of which the largest stays the only largest one in steps of 1/256.

    None moves by more than one step.
    """
    if found.shape[1] == 1:
        return found
    best = likeliest(found, 1)[1]  # (1, C), a one at the largest
    others = tf.minimum(found, tf.reduce_max(found, axis=1, keepdims=True) - QUANTUM + 2.0 * best)
    return tf.maximum(others, QUANTUM * best)
