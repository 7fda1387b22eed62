"""golden.npz: inputs and expected outputs, by which a device tests itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.export.runtimes import BackboneOutput
from keras_cbpnet.layers.cbp_head import CBPHead

STEPS = 20
ROWS = 4


def golden_vectors(
    images: NDArray[np.uint8],
    forms: Mapping[str, tuple[Mapping[str, BackboneOutput], NDArray[np.float32]]],
    head: CBPHead,
    seed: int = 0,
) -> dict[str, NDArray[Any]]:
    """Return the arrays of golden.npz.

    Args:
        images: uint8 [n, H, W, 3].
        forms: of the backbone, by what their names begin with, "" for backbone.tflite: the outputs for these images by
            runtime, for integer kernels round differently; and the model's features, float32 [n, d], by which another
            processor's rounding is judged.
        head: in the state that is shipped; it is not changed.
        seed: of the training steps' inputs.
    """
    arrays: dict[str, NDArray[Any]] = {"image": images}
    for prefix, (outputs, expected) in forms.items():
        arrays[f"{prefix}expected"] = expected
        for runtime, output in outputs.items():
            arrays[f"{prefix}feature.{runtime}"] = output.raw
            arrays[f"{prefix}prompt.{runtime}"] = output.prompt
    state = {name: np.asarray(value) for name, value in head.values().items()}
    arrays.update({f"state.{name}": value for name, value in state.items()})

    infer = training_stream(head, 1, seed + 1)["feature"][0][:ROWS]
    result = head.equations.infer(head.values(), infer)
    arrays["infer.feature"] = infer
    arrays.update({f"infer.{name}": np.asarray(value) for name, value in result.items()})

    stream = training_stream(head, STEPS, seed)
    arrays.update({f"train.{name}": value for name, value in stream.items()})
    values, results = head.values(), []
    for step in range(STEPS):
        values, found = head.equations.train(values, **{name: value[step] for name, value in stream.items()})
        results.append(found)
    arrays["train.loss"] = np.array([float(found["loss"]) for found in results], np.float32)
    arrays["train.replaced"] = np.array([int(found["replaced"]) for found in results], np.int32)
    arrays.update({f"final.{name}": np.asarray(value) for name, value in values.items()})
    return arrays


def training_stream(head: CBPHead, steps: int, seed: int) -> dict[str, NDArray[Any]]:
    """Return inputs of `steps` training steps of `head`, on features that look like its classes.

    Every array's first axis counts the steps; the other axes are those of the `train` signature. Some rows are empty.
    """
    rng = np.random.default_rng(seed)
    c, d = head.config, head.width
    mean, scale = np.asarray(head.feature_mean), np.asarray(head.feature_scale)
    counted = np.asarray(head.state["class_count"]) > 0
    centres = np.where(
        counted[:, None], np.asarray(head.state["class_mean"]), mean + rng.normal(size=(c.slots, d)) * scale
    )
    label = rng.integers(-1, c.slots, (steps, c.batch)).astype(np.int32)
    return {
        "feature": (centres[label] + rng.normal(size=(steps, c.batch, d)) * scale).astype(np.float32),
        "label": label,
        "class_mask": np.ones((steps, c.slots), np.float32),
        "learning_rate": np.full(steps, c.learning_rate, np.float32),
        "fresh": rng.uniform(-head.bound, head.bound, (steps, d)).astype(np.float32),
    }
