"""A rotation of the tokens that spreads their outlier channels, so that 8 bits resolve them better.

A few channels of a Vision Transformer's tokens are many times larger than the others, and an int8 tensor has one step
for all. The layer normalizations here divide a token of mean 0 by its length, which no rotation changes; so a rotation
that keeps the mean may be folded into every weight that writes or reads tokens: the features stay as they are, and it
costs nothing on the device (QuaRot, Ashkboos et al., arXiv 2404.00456; learned as in SpinQuant, Liu et al., arXiv
2405.16406, but against large values instead of the loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_cbpnet.layers.fake_quant import float32
from keras_cbpnet.models.backbone import Backbone

# Dimensions: N tokens, D width.
IMAGES = 100
TOKENS = 1500  # of each place
STEPS = 100
RATE = 3e-3
POWER = 10  # of the norm that stands for the largest value, whose gradient would see one channel at a time


def spread_outliers(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    """Rotate the tokens of `backbone` so that no channel stands out; its features do not change but for rounding.

    Args:
        backbone: its last norm is followed by a dense layer (`whitening`), which undoes the rotation.
        images: raw RGB, uint8 [M, S, S, 3]; the first 100 are used.

    Raises:
        ValueError: no dense layer follows the last norm.
    """
    if not backbone.config.whitening:
        raise ValueError("the last norm scales each channel, which no rotation leaves alone; set whitening=True")
    with float32(backbone):
        places = _tokens(backbone, images[:IMAGES])
    rng = np.random.default_rng(0)
    rotate(backbone, learn_rotation([rng.permutation(tokens)[:TOKENS] for tokens in places]))


def rotate(backbone: Backbone, rotation: NDArray[np.float64]) -> None:
    """Fold a rotation of the tokens into the weights.

    Args:
        backbone: as in `spread_outliers`.
        rotation: orthogonal [D, D] that leaves the all-ones direction alone, so that tokens keep their mean of 0.
    """

    def assign(variable: keras.Variable, value: Any) -> None:
        variable.assign(np.asarray(value, np.float32))

    def plain(variable: keras.Variable) -> NDArray[np.float64]:
        return np.asarray(variable, np.float64)

    def mean_free(variable: keras.Variable) -> NDArray[np.float64]:
        return plain(variable) - plain(variable).mean(axis=-1, keepdims=True)

    embedding, blocks = backbone.embedding, backbone.blocks
    registers = [embedding.register_tokens] if embedding.registers else []
    for token in (embedding.class_token, embedding.position, *registers):
        assign(token, mean_free(token) @ rotation)
    writers: list[Any] = [embedding.convolutions[-1]]
    for writer in (*writers, *(w for b in blocks for w in (b.output_projection, b.contract))):
        for variable in (writer.kernel, writer.bias):
            assign(variable, mean_free(variable) @ rotation)
    readers = (reader for b in blocks for reader in (b.query, b.key, b.value, b.expand))
    for reader in (*readers, backbone.whitening):
        assign(reader.kernel, rotation.T @ plain(reader.kernel))


def learn_rotation(places: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the rotation that makes the largest values of some groups of tokens small.

    Args:
        places: tokens of mean 0 [N, D], float32; a group shares a range.

    Returns:
        Orthogonal [D, D] that leaves the all-ones direction alone.
    """
    width = places[0].shape[1]
    tokens = [tf.constant(x / np.sqrt(np.mean(np.square(x)))) for x in places]
    # Rotations of what is orthogonal to the all-ones direction, in a basis of it.
    basis = np.linalg.qr(np.concatenate([np.ones((width, 1)), np.eye(width, width - 1)], axis=1))[0][:, 1:]
    start = np.linalg.qr(np.random.default_rng(0).normal(size=(width - 1, width - 1)))[0]
    first, span = (tf.constant(x, tf.float32) for x in (start, basis))
    one = tf.eye(width - 1)
    angles = keras.Variable(np.zeros((width - 1, width - 1), np.float32))
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build([angles])

    @tf.function(autograph=False)
    def step() -> None:
        with tf.GradientTape() as tape:
            skew = angles.value - tf.transpose(angles.value)
            inner = first @ tf.linalg.solve(one + skew, one - skew)  # Cayley's form of a rotation
            turn = span @ inner @ tf.transpose(span)  # (D, D)
            sizes = [tf.reduce_mean((x @ turn) ** POWER) for x in tokens]
            loss = tf.add_n([tf.math.log(size) for size in sizes])
        optimizer.apply([tape.gradient(loss, angles.value)], [angles])

    for _ in range(STEPS):
        step()
    skew = np.asarray(angles, np.float64)
    skew = skew - skew.T
    inner = start @ np.linalg.solve(np.eye(width - 1) + skew, np.eye(width - 1) - skew)
    return basis @ inner @ basis.T + np.full((width, width), 1 / width)


def _tokens(backbone: Backbone, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Return the tokens [N, D] after the embedding and after every block."""
    x = backbone.embed(images)
    found = [x]
    for i, block in enumerate(backbone.blocks):
        x = block(x, class_only=i == len(backbone.blocks) - 1)
        found.append(x)
    return [np.reshape(np.asarray(x), (-1, backbone.config.width)) for x in found]
