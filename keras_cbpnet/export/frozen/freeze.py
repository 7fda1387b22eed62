"""From a bundle or a run to a folder with one classifier: join, verify, write."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import Bundle, read_bundle
from firmware_host.shared.runtimes import installed_interpreters
from keras_cbpnet import __version__
from keras_cbpnet.config import read_config
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.bundle import export_bundle
from keras_cbpnet.export.frozen.joined import head_graph, joined
from keras_cbpnet.export.frozen.learned import Learned, read_learned
from keras_cbpnet.export.frozen.metadata import described
from keras_cbpnet.export.frozen.scores import QUANTUM, probabilities, told_apart
from keras_cbpnet.export.order import Order
from keras_cbpnet.export.recipes import INTEGER
from keras_cbpnet.export.replacing import recover, replacing
from keras_cbpnet.export.runtimes import run_classifier
from keras_cbpnet.export.tflite_file.ops import custom_ops, op_table

# Dimensions: n images, C classes known, N pixels of a side.

MODEL, LABELMAP, INDEXED = "model.tflite", "labelmap.txt", "labels.txt"
TOLERANCE = 1e-3  # of float32 scores: two runtimes and NumPy sum in another order
LARGEST = 2048  # pixels of a side that a classifier may resize
Progress = Callable[[str], None]


class Wanted(NamedTuple):
    """What kind of classifier is wanted.

    Args:
        state: what a device learned, an exported file or a state folder; None: what the bundle knows.
        input_size: N, of the images that it takes; 0: what the backbone takes.
        scores: their type, `uint8` or `float32`.
    """

    state: Path | None = None
    input_size: int = 0
    scores: str = "uint8"


def freeze(
    source: Path, output: Path, wanted: Wanted, overwrite: bool = False, progress: Progress = lambda line: None
) -> dict[str, Any]:
    """Write a folder with the classifier and its labels, whole or not at all.

    Args:
        source: a bundle, or a finished run, which is converted first.
        output: the folder to write.
        wanted: what kind of classifier.
        overwrite: whether a folder that this function wrote may be replaced.
        progress: called with a line at every step.

    Returns:
        classes, bytes of model.tflite, the shape of its input and the largest difference from a device's scores.

    Raises:
        UserError: the folder exists, the source or the state cannot be used, or the classifier would not say what a
            device says; nothing is written.
    """
    recover(output)
    _check_output(output, overwrite)
    if not 0 <= wanted.input_size <= LARGEST:
        raise UserError(f"--input-size {wanted.input_size} is not from 1 to {LARGEST}, or 0 for the backbone's own")
    if (source / "manifest.json").is_file():
        return _frozen(read_bundle(source), output, wanted, progress)
    if not (source / "config.json").is_file():
        raise UserError(f"{source} is neither a bundle (it has no manifest.json) nor a run (no config.json)")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        export_bundle(source, read_config(source), bundle, Order((INTEGER,)), progress=progress)
        return _frozen(read_bundle(bundle), output, wanted, progress)


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.exists():
        return
    if not overwrite:
        raise UserError(f"{output} exists; choose another folder or give --overwrite")
    if not output.is_dir() or {path.name for path in output.iterdir()} - {MODEL, LABELMAP, INDEXED}:
        raise UserError(
            f"{output} is not a folder that freeze wrote, so --overwrite does not replace it; choose another"
        )


def _frozen(bundle: Bundle, output: Path, wanted: Wanted, progress: Progress) -> dict[str, Any]:
    progress("reading what is known")
    learned = read_learned(bundle, wanted.state)
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
    runtimes = installed_interpreters()
    if not runtimes:
        raise UserError("no interpreter is installed to verify the classifier with; pip install 'keras-cbpnet[device]'")
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
