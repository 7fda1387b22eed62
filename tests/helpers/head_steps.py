"""Heads in random states, and single steps of them, for the tests of the learning step."""

import numpy as np
import tensorflow as tf
from helpers.head_case import Case

from firmware_host.bundle import BLOCKS
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.head.equations import Head
from keras_cbpnet.layers.cbp_head import CBPHead

# Dimensions: B rows, d features, h hidden units, C class slots.


def head_layer(case, state):
    layer = CBPHead(HeadConfig(**case.settings), own_step=True)
    layer.build((None, case.d))
    mean, scale = case.constants
    layer.feature_mean.assign(mean)
    layer.feature_scale.assign(scale)
    layer.assign(state)
    return layer


def numpy_of(state):
    return {name: np.array(value) for name, value in state.items()}


def random_case(block, **changes):
    """Head, state, feature, label and class mask with every value somewhere, two empty rows, two classes left out."""
    d, h, C, B = 6, 5, 6, 8
    rng = np.random.default_rng(3)
    config = HeadConfig(block=block, units=h, slots=C, batch=B, logit_scale=3.0, **changes)
    constants = rng.normal(size=d).astype(np.float32), rng.uniform(0.5, 2, d).astype(np.float32)
    state = Case(block, d, h, C, B, {}).start()
    for name in BLOCKS[block].weights:
        state[name] = rng.normal(0, 0.5, state[name].shape).astype(np.float32)
    state["class_mean"] = rng.normal(size=(C, d)).astype(np.float32)
    feature = rng.normal(size=(B, d)).astype(np.float32)
    mask, label = np.array([1, 1, 0, 1, 1, 0], np.float32), np.array([0, 1, 3, -1, 4, 0, -1, 3], np.int32)
    return Head(config, *constants), state, feature, label, mask


def train(head, state, feature, label, mask, rate=1e-3, fresh=None):
    """One step of `head`; inputs and results as NumPy arrays."""
    fresh = np.zeros(np.shape(feature)[1], np.float32) if fresh is None else fresh
    arguments = (tf.constant(value) for value in (feature, label, mask, np.float32(rate), fresh))
    new, result = head.train({name: tf.constant(value) for name, value in state.items()}, *arguments)
    return numpy_of(new), numpy_of(result)
