"""From a bundle or a run to a folder with one classifier: join, verify, write."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import Bundle, read_bundle
from keras_cbpnet import __version__
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.bundle import write_bundles
from keras_cbpnet.export.check import runtimes_to_verify
from keras_cbpnet.export.frozen.asked import INDEXED, LABELMAP, MODEL, Asked, Wanted
from keras_cbpnet.export.frozen.joined import head_graph, joined
from keras_cbpnet.export.frozen.learned import Learned, read_learned
from keras_cbpnet.export.frozen.metadata import described
from keras_cbpnet.export.frozen.scores import QUANTUM, probabilities, told_apart
from keras_cbpnet.export.order import Order
from keras_cbpnet.export.recipes import INTEGER
from keras_cbpnet.export.replacing import replacing
from keras_cbpnet.export.runtimes import run_classifier
from keras_cbpnet.export.tflite_file.ops import custom_ops, op_table

# Dimensions: n images, C classes known.

TOLERANCE = 1e-3  # of float32 scores: two runtimes and NumPy sum in another order
Progress = Callable[[str], None]


def freeze(asked: Asked, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Write a folder with the classifier and its labels, whole or not at all.

    Args:
        asked: what `read_asked` has found usable.
        progress: called with a line at every step.

    Returns:
        classes, bytes of model.tflite, the shape of its input and the largest difference from a device's scores.

    Raises:
        UserError: the run cannot be converted, or the classifier would not say what a device says; nothing is written.
    """
    if asked.learned is not None:
        return _frozen(asked.learned, asked.output, asked.wanted, progress)
    assert asked.run is not None  # noqa: S101 (one of the two is there)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        write_bundles(asked.run, {bundle: Order((INTEGER,))}, progress)
        learned = read_learned(read_bundle(bundle), asked.wanted.state)
        return _frozen(learned, asked.output, asked.wanted, progress)


def _frozen(learned: Learned, output: Path, wanted: Wanted, progress: Progress) -> dict[str, Any]:
    bundle = learned.bundle
    progress("joining backbone and head")
    size = 0 if bundle.image_size == (wanted.input_size,) * 2 else wanted.input_size

    def scores(feature: Any) -> Any:
        found = probabilities(learned, feature)
        return told_apart(found) if wanted.scores == "uint8" else found

    backbone, head = bundle.file("backbone.tflite").read_bytes(), head_graph(scores, bundle.feature_size)

    def classifier(side: int) -> bytes:
        about = _about(learned, wanted, _shape(bundle, side))
        return described(joined(backbone, head, wanted.scores, side), about, learned.classes)

    content = classifier(0)
    if custom := custom_ops(op_table(content)):
        raise UserError(f"the classifier needs operators that are not TFLite builtins: {', '.join(custom)}")
    progress("verifying")
    largest = _verified(content, learned, wanted.scores)
    if size:
        content = classifier(size)
    with replacing(output) as folder:
        (folder / MODEL).write_bytes(content)
        (folder / LABELMAP).write_text("".join(f"{name}\n" for name in learned.classes), encoding="utf-8")
        lines = [f"{slot} {name}\n" for slot, name in enumerate(learned.classes)]
        (folder / INDEXED).write_text("".join(lines), encoding="utf-8")
    shape = _shape(bundle, size)
    return {"classes": list(learned.classes), "bytes": len(content), "input": shape, "largest_difference": largest}


def _shape(bundle: Bundle, side: int) -> list[int]:
    return [1, *((side, side) if side else bundle.image_size), 3]


def _verified(content: bytes, learned: Learned, scores: str) -> float:
    """Return the largest difference of the scores from a device's, for the images that the bundle is tested by.

    Raises:
        UserError: it is too large, or another class has the largest score.
    """
    runtimes = runtimes_to_verify()
    found: NDArray[np.float32] = run_classifier(content, learned.images, runtimes[0])
    difference = float(np.abs(found - learned.judged).max())
    allowed = 1.5 * QUANTUM if scores == "uint8" else TOLERANCE
    if difference > allowed or (found.argmax(axis=1) != learned.judged.argmax(axis=1)).any():
        raise UserError(
            f"the classifier does not say what a device says of the images in {learned.bundle.path}: its scores differ "
            f"by up to {difference:.2g}, allowed {allowed:.2g}; please report this"
        )
    return difference


def _about(learned: Learned, wanted: Wanted, shape: list[int]) -> dict[str, Any]:
    """Return what metadata.json says."""
    bundle = learned.bundle
    return {
        "name": bundle.name,
        "description": f"Image classifier of {len(learned.classes)} classes, frozen by keras-cbpnet {__version__}",
        "version": __version__,
        "author": "keras-cbpnet",
        "license": str(bundle.manifest.get("license", "unknown")),
        "task": "classify",
        "names": {str(slot): name for slot, name in enumerate(learned.classes)},
        "imgsz": shape[1:3],
        "recipe": bundle.recipe,
        "scores": wanted.scores,
        "bundle": bundle.identity,
    }
