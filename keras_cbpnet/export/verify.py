"""Verification: what must hold of the converted files before a bundle is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_cbpnet.errors import UserError
from keras_cbpnet.export.golden import training_stream
from keras_cbpnet.export.recipes import INTEGER, RECIPES
from keras_cbpnet.export.runtimes import run_head
from keras_cbpnet.export.tflite_file import islands
from keras_cbpnet.export.tflite_file.ops import custom_ops, float_ops, float_weights, per_channel_dense
from keras_cbpnet.layers.cbp_head import CBPHead

HEAD_STEPS = 200
HEAD_TOLERANCE = 1e-4
HEAD_LEARNING_RATE = 1e-3  # at most: beyond it, Adam on random labels amplifies float32 rounding past the tolerance
WORST = 5  # state tensors that an error names
COSINE = 0.99
LEAST_COSINE = 0.95  # also where the model's own rounding takes more: such a model is not usable either
ACCURACY_LOSS = 0.01
SMALL_WEIGHTS = 1000  # entries that quantized weights may leave in floating point


def check_ops(tables: dict[str, list[dict[str, Any]]], recipes: dict[str, str]) -> None:
    """Refuse custom and Flex operators anywhere, and floating point where the recipe of a file has int8."""
    for file, table in tables.items():
        if custom := custom_ops(table):
            raise UserError(f"{file} needs operators that are not TFLite builtins: {', '.join(custom)}")
    for file, recipe in recipes.items():
        allowed = islands.OPERATORS if RECIPES[recipe].islands else frozenset()
        floating = [name for name in float_ops(tables[file]) if name not in allowed]
        if RECIPES[recipe].quantized_activations and floating:
            raise UserError(f"recipe {recipe} left floating-point operators in {file}: {', '.join(floating)}")


def check_weights(models: dict[str, bytes], recipes: dict[str, str]) -> None:
    """Refuse per-channel int8 dense weights anywhere, and large float weights where the recipe of a file has int8."""
    for file, model in models.items():
        if count := per_channel_dense(model):
            raise UserError(
                f"{file} has {count} FULLY_CONNECTED operator(s) with per-channel int8 weights, on which "
                "tflite-runtime 2.14 crashes on aarch64; convert dense layers with one scale per tensor"
            )
    for file, recipe in recipes.items():
        if RECIPES[recipe].quantized_weights and (floating := float_weights(models[file], SMALL_WEIGHTS)):
            raise UserError(
                f"recipe {recipe} left float weights in {file}: {', '.join(floating[:5])}; use --recipe {INTEGER}"
            )


def check_head(model: bytes, head: CBPHead, runtime: str) -> float:
    """Compare `model` under `runtime` with the Keras head over 200 training steps from the same state.

    Returns:
        The largest absolute difference of loss and state at any step.

    Raises:
        UserError: it is above 1e-4, and the message names where it is largest, or another unit was reset.
            The same where the runtime cannot run it.
    """
    stream = training_stream(head, HEAD_STEPS, seed=2)
    stream["learning_rate"] = np.minimum(stream["learning_rate"], np.float32(HEAD_LEARNING_RATE))
    twin = type(head).from_config(head.get_config())
    twin.build((None, head.width))
    for mine, theirs in zip(twin.variables, head.variables, strict=True):
        mine.assign(theirs)
    learn, watch = (tf.function(each, autograph=False) for each in (twin.learn, twin.observe))
    shapes = {name: tuple(value.shape) for name, value in twin.state.items()}
    worst: dict[str, float] = {}
    for step, found in enumerate(run_head(model, stream, shapes, head.config.optimizer, runtime)):
        inputs = {name: value[step] for name, value in stream.items()}
        watch(**{name: inputs[name] for name in ("feature", "label")})
        expected = learn(**inputs)
        if int(found["replaced"]) != int(expected["replaced"]):
            raise UserError(
                f"head.tflite resets unit {int(found['replaced'])} where Keras resets {int(expected['replaced'])}"
            )
        differences = {name: float(np.abs(found[name] - value.numpy()).max()) for name, value in twin.state.items()}
        differences["loss"] = abs(float(found["loss"]) - float(expected["loss"]))
        worst = {name: float(np.maximum(worst.get(name, 0.0), new)) for name, new in differences.items()}  # keeps NaN
    largest = sorted(worst.items(), key=lambda pair: -np.inf if np.isnan(pair[1]) else -pair[1])
    if not largest[0][1] <= HEAD_TOLERANCE:
        named = ", ".join(f"{name} {difference:.1e}" for name, difference in largest[:WORST])
        raise UserError(
            f"head.tflite differs from Keras by {largest[0][1]:.1e} after {HEAD_STEPS} steps, allowed "
            f"{HEAD_TOLERANCE}; worst first: {named}; train again with a lower --learning-rate or other images, and if "
            "that does not help, please report this"
        )
    return largest[0][1]


def check_features(found: NDArray[np.float32], expected: NDArray[np.float32], plain: NDArray[np.float32]) -> float:
    """Compare the features that a file gives with those of the model it was made from.

    The file rounds where the model does, but not alike, and two roundings of a deep network part: so 1 - cosine may be
    0.01, or what the model's own rounding makes of its float32 features, if that is more, but never above 0.05.

    Args:
        found: of the file, [N, d].
        expected: of the model, through its fake quantizers if it has them, [N, d].
        plain: of the model in float32, [N, d].

    Returns:
        The mean cosine of `found` and `expected`.

    Raises:
        UserError: it is below what is allowed.
    """
    cosine = mean_cosine(found, expected)
    needed = max(LEAST_COSINE, min(COSINE, mean_cosine(expected, plain)))
    if not cosine >= needed:
        raise UserError(f"the features have a mean cosine of {cosine:.4f} to the model's, needed {needed:.4f}")
    return cosine


def mean_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the mean cosine of the rows of two arrays [N, d]."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.mean(np.sum(one * other, axis=1) / np.maximum(norms, 1e-12)))


def check_accuracy(found: NDArray[np.bool_], expected: NDArray[np.bool_]) -> None:
    """Refuse a bundle that is more than a point less accurate than the float32 model.

    Rounding turns some images that lie near a border, in both directions and by chance. So one standard error of the
    difference, the square root of the number of images that turned (McNemar, Psychometrika 1947), may come on top.

    Args:
        found: whether the bundle is right about each held-out image, [N].
        expected: the same of the model.

    Raises:
        UserError: more images were lost.
    """
    images, turned = len(expected), int(np.sum(found != expected))
    if int(expected.sum()) - int(found.sum()) > ACCURACY_LOSS * images + np.sqrt(turned):
        raise UserError(
            f"the bundle is right on {found.mean():.1%} of {images} held-out images, the float32 model on "
            f"{expected.mean():.1%}; at most one point may be lost, and what chance gives and takes"
        )


def remedy(recipe: str, qat: bool) -> str:
    """Return what helps where a backbone lost too much.

    Args:
        recipe: that it was converted by.
        qat: whether the run was trained through fake quantizers.
    """
    parts = ("quantized_weights", "quantized_activations", "integer")
    rounds = {name: sum(getattr(each, part) for part in parts) for name, each in RECIPES.items()}
    gentler = [name for name, number in rounds.items() if number < rounds[recipe]]
    if not gentler:
        return "; nothing is rounded by this recipe, so please report this with the command that led to it"
    use = f"use --recipe {' or '.join(gentler)}"
    return f"; {use}" if qat or not RECIPES[recipe].quantized_activations else f"; train with --qat, or {use}"
