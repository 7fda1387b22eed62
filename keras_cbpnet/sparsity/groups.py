"""The members of a backbone that may be removed, and the gradients of their gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_cbpnet.head.standardise import whitening
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.sparsity.members import Members

# Dimensions: N images, B of a batch, K classes, F hidden units of an MLP, D width.
BATCH = 20  # images of a gradient
MEASURED = 1000  # images whose gradients are taken
SHRINKAGE = 0.1  # of the covariance of the classifier that gives the loss


def mlp_units(backbone: Backbone, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]]) -> list[Members]:
    """Return the hidden units of every block's MLP.

    The loss is the cross-entropy of a linear discriminant classifier fitted to the features of all images. A gate
    multiplies what a unit gives, so its gradient is the product of the outgoing weights and their gradients, summed.

    Args:
        backbone: built, its fake quantizers off or absent.
        images: raw RGB, uint8 [N, S, S, 3], of the pretraining data and not of the stream to come.
        labels: [N].
    """
    classify = _classifier(backbone, images, labels)
    kernels = [block.contract.kernel for block in backbone.blocks]

    @tf.function(autograph=False)
    def gradients(batch: Any, target: Any) -> tuple[list[Any], list[Any]]:
        with tf.GradientTape() as tape:
            for kernel in kernels:
                tape.watch(kernel.value)
            feature, hidden = _with_hidden(backbone, batch)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(target, classify(feature)))
        found = tape.gradient(loss, [kernel.value for kernel in kernels])
        gates = [tf.reduce_sum(k.value * g, axis=1) for k, g in zip(kernels, found, strict=True)]  # (F,)
        return gates, [tf.reduce_mean(h, axis=(0, 1)) for h in hidden]

    rows = np.random.default_rng(0).permutation(len(images))[:MEASURED]
    rows = rows[: max(1, len(rows) // BATCH) * BATCH].reshape(-1, min(BATCH, len(rows)))
    steps = [gradients(images[r].astype(np.float32), np.searchsorted(np.unique(labels), labels[r])) for r in rows]
    members = []
    for i, block in enumerate(backbone.blocks):
        gate = np.array([gates[i] for gates, _ in steps], np.float64)  # (steps, F)
        active = np.array([hidden[i] for _, hidden in steps], np.float64) * block.contract.input_gain
        ways = (np.linalg.norm(block.expand.kernel, axis=0), np.linalg.norm(block.contract.kernel, axis=1))
        weight = np.asarray(ways[0] * ways[1], np.float64)
        members.append(Members(weight, gate.mean(0), np.square(gate).mean(0), rows.shape[1], active.mean(0)))
    return members


def _with_hidden(backbone: Backbone, images: Any) -> tuple[Any, Sequence[Any]]:
    """Return the features [B, D] of images and the hidden units [B, N, F] of every block."""
    x, found = backbone.embed(images), []
    for block in backbone.blocks:
        middle = block.attention(x)
        found.append(block.hidden(middle))
        x = middle + block.contract(found[-1])
    return backbone.last(x[:, 0], False), found


def _classifier(
    backbone: Backbone, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]]
) -> Callable[[Any], Any]:
    """Return what gives the logits [B, K] of features [B, D]: shared covariance, means of the classes."""
    many = backbone.pass_images
    parts = [np.asarray(backbone.features(images[i : i + many])) for i in range(0, len(images), many)]
    features = np.concatenate(parts).astype(np.float64)
    mean, matrix = whitening(features, labels, SHRINKAGE)
    white = (features - mean) @ matrix
    means = np.stack([white[labels == label].mean(axis=0) for label in np.unique(labels)])  # (K, D)
    kernel = tf.constant(matrix @ means.T, tf.float32)  # (D, K)
    bias = tf.constant(-mean @ matrix @ means.T - np.square(means).sum(axis=1) / 2, tf.float32)
    return lambda feature: feature @ kernel + bias
