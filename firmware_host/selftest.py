"""Does this machine compute what the bundle was verified with? Expected outputs come in the bundle's golden.npz.

Integer kernels round differently from runtime to runtime and from processor to processor. So the backbone's outputs are
recorded once per runtime, and a machine passes when it computes what one of them does, or when it departs no further
than that from what the model gives without rounding. The head is float32 and has one expected result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from firmware_host.bundle import BLOCKS, Bundle, BundleError
from firmware_host.engines.backbone import Backbone
from firmware_host.engines.find import SIGNATURE, Runtime, open_backbone, open_head, recipe_of, signature_of
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.engines.protocol import Array, Head, HeadState
from firmware_host.engines.tflm import TflmHead

__all__ = ["FLOAT_QUANTUM", "MAX_ERROR_RATIO", "MAX_HEAD_ERROR", "MAX_QUANTA", "selftest"]

MAX_QUANTA = 1.0
MAX_HEAD_ERROR = 1e-5
FLOAT_QUANTUM = 1e-4  # what counts as one quantum where the feature is float32, at least
MAX_ERROR_RATIO = 1.25  # measured: 0.92 to 1.03 between x86-64 and aarch64, on eight images


def selftest(bundle: Bundle, runtime: Runtime, threads: int = 1) -> dict[str, Any]:
    """Run the bundle on its golden inputs, from its start state; what the device has learned is not touched.

    Returns:
        `ok`, `runtime` and `recipe`, that of the backbone it takes, and
            reference: the recorded runtime that the backbone agrees with best, among those with all prompts equal if
                any;
            backbone_max_quanta: largest difference of a feature from it, in steps of the integer feature; for a float32
                one in steps of the most that int8 weights moved the recorded one, at least 1e-4;
            feature_error_ratio: root mean square departure of the features from those of the model without rounding,
                golden.npz's `expected`, divided by the same of the reference; None where golden.npz has none;
            prompts_equal: whether the same prompts are chosen;
            head_max_error: largest absolute difference of start state, probabilities, losses and state after training,
                and of the logits, which `prototype` scales: theirs is divided by max(1, |logit_scale|), back to
                cosines;
            replaced_equal: whether the same units are reset;
            images, steps: how many were compared.
        A number that is not finite comes as None. `ok`: at most 1 quantum or a ratio of at most 1.25, a head error of
        at most 1e-5, prompts and reset units equal.

    Raises:
        BundleError: golden.npz lacks any of it, as that of another program does.
    """
    recipe, signature = recipe_of(bundle, runtime), signature_of(bundle, runtime)
    golden = _Golden(bundle, recipe, signature)
    match = _best_match(open_backbone(bundle, runtime, threads), golden, runtime.name)
    error, replaced_equal = _head_difference(open_head(bundle, runtime, threads), golden, bundle)
    features_ok = match.quanta <= MAX_QUANTA or match.error_ratio <= MAX_ERROR_RATIO
    ok = features_ok and error <= MAX_HEAD_ERROR and match.prompts_equal and replaced_equal
    return {
        "ok": bool(ok),
        "runtime": runtime.name,
        "recipe": recipe,
        "reference": match.reference,
        "backbone_max_quanta": _finite(match.quanta),
        "feature_error_ratio": _finite(match.error_ratio),
        "prompts_equal": match.prompts_equal,
        "head_max_error": _finite(error),
        "replaced_equal": replaced_equal,
        "images": len(golden["image"]),
        "steps": len(golden["train.label"]),
    }


KINDS = ("feature", "prompt")
INFER = ("feature", "logits", "probabilities")
TRAIN = ("feature", "label", "class_mask", "learning_rate", "fresh", "loss", "replaced")


class _Golden:
    """golden.npz, complete or refused; `references` are the runtimes whose outputs of a backbone it holds.

    What belongs to one backbone has its recipe before the name, unless that is backbone.tflite, and before that the
    signature, unless that is of all blocks.
    """

    def __init__(self, bundle: Bundle, recipe: str, signature: str = SIGNATURE) -> None:
        self._path = bundle.file("golden.npz")
        self._arrays = bundle.arrays("golden.npz")
        of_signature = "" if signature == SIGNATURE else f"{signature}."
        if prefix := of_signature + ("" if recipe == bundle.recipe else f"{recipe}."):
            own = bundle.arrays("golden.npz", prefix=prefix)
            others = [name for name in self._arrays if name.startswith((*(f"{kind}." for kind in KINDS), "expected"))]
            self._arrays = {name: value for name, value in self._arrays.items() if name not in others}
            self._arrays.update(own)
        prefix = "feature."
        self.references = sorted(name[len(prefix) :] for name in self._arrays if name.startswith(prefix))
        names = ["image", *(f"{kind}.{runtime}" for runtime in self.references or ["RUNTIME"] for kind in KINDS)]
        names += [f"{group}.{name}" for group in ("state", "final") for name in bundle.state_shapes]
        names += [*(f"infer.{name}" for name in INFER), *(f"train.{name}" for name in TRAIN)]
        for name in names:
            if name not in self._arrays:
                raise BundleError(
                    f"{self._path} lacks {name!r}, which the self-test needs: convert with tflite/convert.py"
                )
        image = self._arrays["image"]  # (n, H, W, 3)
        if image.dtype != np.uint8 or image.shape[1:] != (*bundle.image_size, 3) or len(image) == 0:
            raise BundleError(
                f"{self._path}: image is {image.dtype} {list(image.shape)}, not uint8 images of this bundle's size: "
                "convert with tflite/convert.py"
            )
        self.expected = self._arrays.get("expected")  # float32 (n, d)
        if self.expected is not None and self.expected.shape != (len(image), bundle.feature_size):
            raise BundleError(
                f"{self._path}: expected is {list(self.expected.shape)}, not one feature per image: "
                "convert with tflite/convert.py"
            )

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]


class _Match(NamedTuple):
    """How far the backbone's outputs are from those recorded with `reference`."""

    reference: str
    quanta: float
    error_ratio: float  # inf where it is unknown
    prompts_equal: bool


def _best_match(backbone: Backbone, golden: _Golden, runtime: str) -> _Match:
    found = [backbone(image) for image in golden["image"]]
    raw = np.concatenate([feature.raw for feature in found])  # (n, d)
    prompts = np.array([feature.prompt for feature in found])  # (n,)
    matches = []
    for reference in golden.references:
        recorded, ratio = golden[f"feature.{reference}"], math.inf
        quantum = 1.0 if raw.dtype.kind in "iu" else FLOAT_QUANTUM
        if golden.expected is not None and recorded.shape == raw.shape:
            here, there = (backbone.dequantize(rows) - golden.expected for rows in (raw, recorded))
            ratio = _root_mean_square(here) / max(_root_mean_square(there), FLOAT_QUANTUM)
            if raw.dtype.kind not in "iu":
                quantum = max(quantum, float(np.abs(there).max()))
        quanta = _largest([(raw, recorded)]) / quantum
        matches.append(_Match(reference, quanta, ratio, np.array_equal(prompts, golden[f"prompt.{reference}"])))
    agreeing = [match for match in matches if match.prompts_equal]
    return min(agreeing or matches, key=lambda match: (match.quanta, match.reference != runtime))


def _root_mean_square(values: Array) -> float:
    mean = float(np.mean(np.square(values, dtype=np.float64)))
    return math.sqrt(mean) if math.isfinite(mean) else math.inf


def _head_difference(head: Head, golden: _Golden, bundle: Bundle) -> tuple[float, bool]:
    names = tuple(bundle.state_shapes)
    scale = max(1.0, abs(bundle.head["logit_scale"])) if BLOCKS[bundle.head["block"]].scaled else 1.0
    start = head.get_state()
    pairs: list[tuple[Any, Any]] = [(start[name], golden[f"state.{name}"]) for name in names]
    for row, logits, probabilities in zip(*(golden[f"infer.{name}"] for name in INFER)):
        found = head.infer(row[None])
        pairs += [(found[0][0] / scale, logits / scale), (found[1][0], probabilities)]
    replaced_equal = True
    recorded = list(zip(*(golden[f"train.{name}"] for name in TRAIN)))
    expected: HeadState = {name: golden[f"final.{name}"] for name in names}
    if isinstance(head, TflmHead):
        recorded, expected = _with_fewer_rows(recorded, head.rows, bundle, start)
    for *inputs, loss, replaced in recorded:
        result = head.train(*inputs)
        pairs.append((result.loss, loss))
        replaced_equal &= result.replaced == int(replaced)
    final = head.get_state()
    pairs += [(final[name], expected[name]) for name in names]
    return _largest(pairs), bool(replaced_equal)


def _with_fewer_rows(
    recorded: list[tuple[Any, ...]], rows: int, bundle: Bundle, start: HeadState
) -> tuple[list[tuple[Any, ...]], HeadState]:
    """Return the recorded steps cut to `rows`, as a graph of its own batch takes them, and what NumPy makes of them."""
    reference, steps = NumpyHead(bundle.head, start), []
    for feature, label, *rest, _, _ in recorded:
        inputs = (feature[:rows], label[:rows], *rest)
        if np.any(inputs[1] >= 0):
            result = reference.train(*inputs)
            steps.append((*inputs, result.loss, result.replaced))
    return steps, reference.get_state()


def _largest(pairs: Iterable[tuple[Any, Any]]) -> float:
    """Return the largest absolute difference over pairs of arrays; inf where a shape or a nan differs."""
    largest = 0.0
    for found, expected in pairs:
        a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        if a.shape != b.shape:
            return math.inf
        difference = np.abs(a - b)
        largest = max(largest, float(np.nan_to_num(difference, nan=math.inf, posinf=math.inf).max(initial=0.0)))
    return largest


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
