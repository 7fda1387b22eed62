"""The first encoder blocks beside all of them in one bundle, with one head: features made to look like the others."""

# Dimensions: N images, D width, d feature size.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data import Task
from keras_cbpnet.errors import UserError
from keras_cbpnet.export import verify
from keras_cbpnet.export.backbone import convert_backbone
from keras_cbpnet.export.runtimes import run_backbone
from keras_cbpnet.export.samples import sample
from keras_cbpnet.export.tflite_file.feature import feature_as_in
from keras_cbpnet.export.tflite_file.macs import multiply_adds
from keras_cbpnet.layers.fake_quant import float32
from keras_cbpnet.models.calibration import CALIBRATION, calibrate
from keras_cbpnet.models.prompted_classifier import PromptedClassifier
from keras_cbpnet.models.weights import copy_weights

ALIGNED = 5000  # training images by which features are aligned, at most
RIDGE = 0.01  # share of the mean variance that is added to every direction

Rows = NDArray[np.floating[Any]]


class Early(NamedTuple):
    """A form of the backbone with its first blocks alone.

    Args:
        depth: encoder blocks.
        content: its .tflite file, whose features are stored in the integers of the form with all blocks.
        expected: the model's features of the held-out images, [N, d], as the recipe takes it.
        plain: the same in float32.
    """

    depth: int
    content: bytes
    expected: NDArray[np.float32]
    plain: NDArray[np.float32]


def signature_of(depth: int) -> str:
    """Return the name of the signature that runs the first `depth` blocks."""
    return f"depth_{depth}"


def early_model(model: PromptedClassifier, depth: int, tasks: Sequence[Task], seed: int) -> PromptedClassifier:
    """Return `model` with its first `depth` blocks, and features as near to those after all of them as can be.

    They are a linear map of the class token after so many blocks: the ridge regression, on training images, of the
    features after all blocks. So one head, and what a device teaches it, serves both.

    Args:
        model: calibrated, without prompts.
        depth: fewer blocks than it has.
        tasks: that the host trained.
        seed: of the choice of images.
    """
    config = model.get_config()
    config["backbone"] = {**config["backbone"], "depth": depth}
    early: PromptedClassifier = PromptedClassifier.from_config(config)
    early.build()
    images, labels = sample(tasks, "train", ALIGNED, seed)
    with float32(model), float32(early):
        copy_weights(model.backbone, early.backbone)
        early.backbone.set_whitening()
        found, wanted = (each.batched(each.backbone.features, images) for each in (early, model))
    early.backbone.set_whitening(*aligned(found, wanted, labels))
    if model.quantized:
        calibrate(early, early.features, images[:CALIBRATION])
    return early


def aligned(found: Rows, wanted: Rows, labels: NDArray[np.integer[Any]]) -> tuple[Rows, Rows]:
    """Return kernel [d, d] and bias [d], of a ridge regression, which bring `found` [N, d] near `wanted` [N, d]."""
    x, y = (rows.astype(np.float64) for rows in (found, wanted))
    middle, level = x.mean(axis=0), y.mean(axis=0)
    gram = (x - middle).T @ (x - middle)
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    kernel = np.linalg.solve(gram, (x - middle).T @ (y - level))
    return kernel, level - middle @ kernel


def convert_early(early: PromptedClassifier, recipe: str, representative: NDArray[np.uint8], like: bytes) -> bytes:
    """Return the backbone of `early` as a file whose features have the type and the integers of those of `like`."""
    content = convert_backbone(early, recipe, representative)
    return feature_as_in(content, like)


def verify_early(
    forms: Sequence[Any], head: Any, labels: NDArray[np.int32], images: NDArray[np.uint8], runtimes: Sequence[str]
) -> dict[str, Any]:
    """Refuse files with the first blocks alone that do not compute what the model does.

    Args:
        forms: of the backbone, those of all blocks, with `early` ones, and the content that is `written`.
        head: that predicts.
        labels: of the held-out images, [N].
        images: uint8 [N, H, W, 3].
        runtimes: to run them with.

    Returns:
        By depth: `multiply_adds`, and `accuracy` of the model in float32 and by file and runtime.

    Raises:
        UserError: what is wrong.
    """

    def hits(features: NDArray[np.float32]) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = np.asarray(head(features)).argmax(axis=1) == labels
        return right

    report: dict[str, Any] = {}
    for form in forms:
        for early in form.early:
            plain, name = hits(early.plain), signature_of(early.depth)
            row = report.setdefault(str(early.depth), {"multiply_adds": multiply_adds(early.content)})
            row.setdefault("accuracy", {"float32": float(plain.mean())})[form.file] = found = {}
            for runtime in runtimes:
                features = run_backbone(form.written, images, runtime, name).feature
                try:
                    verify.check_features(features, early.expected, early.plain)
                    verify.check_accuracy(hits(features), plain)
                except UserError as error:
                    raise UserError(f"{form.file}, the first {early.depth} blocks: {error}") from error
                found[runtime] = float(hits(features).mean())
    return report
