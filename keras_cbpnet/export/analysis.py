"""Where quantization hurts: signal-to-noise ratio place by place, and what training for it saved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.export.backbone import computed_by
from keras_cbpnet.layers.fake_quant import fake_quantizers, get_mode, set_mode
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

IMAGES = 8
Array = NDArray[np.float32]


def signal_to_noise(model: PromptedClassifier, images: NDArray[np.uint8], recipe: str) -> list[dict[str, Any]]:
    """Compare the model with fake quantizers and without, place by place, the noisiest first.

    Args:
        model: quantized; without fake quantizers the result is empty.
        images: uint8 [N, H, W, 3]; the first eight are used, each with the prompt that it selects in float32.
        recipe: of the file; it says which fake quantizers count.

    Returns:
        For each fake quantizer `place`; `ratio_db`, 10 log10 of signal over noise, all noise that arrives there
        included; `own_db`, the same of this one rounding alone. A ratio without noise is None. In front of a gate the
        noise counts what the range's floor cuts off, which the gate shuts off anyway.
    """
    mode = get_mode(model)
    power: dict[str, NDArray[np.float64]] = {}  # of signal, noise, input, own noise
    try:
        for image in images[:IMAGES, None]:
            set_mode(model, "off")
            prompt = int(np.asarray(model.features(image)[1])[0])
            plain, rounded = (_traced(model, image, prompt, recipe, mode) for mode in ("off", "on"))
            for place, pairs in rounded.items():
                sums = power.setdefault(place, np.zeros(4))
                for (_, signal), (given, found) in zip(plain[place], pairs, strict=True):
                    terms = (signal, found - signal, given, found - given)
                    sums += [float(np.sum(np.square(term, dtype=np.float64))) for term in terms]
    finally:
        set_mode(model, mode)
    rows = [
        {"place": place, "ratio_db": _decibel(s, noise), "own_db": _decibel(given, own)}
        for place, (s, noise, given, own) in power.items()
    ]
    return sorted(rows, key=lambda row: (math.inf if row["ratio_db"] is None else row["ratio_db"], row["place"]))


def worst_places(model: PromptedClassifier, images: NDArray[np.uint8], recipe: str, count: int = 5) -> str:
    """Return the noisiest places of `signal_to_noise` as the end of an error message; empty where there are none."""
    rows = signal_to_noise(model, images, recipe)[:count]
    if not rows:
        return ""
    listed = ", ".join(f"{row['place']} {row['ratio_db']} dB (alone {row['own_db']})" for row in rows)
    return f"; signal to noise, worst first: {listed}"


def _traced(
    model: PromptedClassifier, image: NDArray[np.uint8], prompt: int, recipe: str, mode: str
) -> dict[str, list[tuple[Array, Array]]]:
    """Return what entered and left every fake quantizer, call by call, by place."""
    set_mode(model, mode)
    with computed_by(recipe, model.backbone), _watched(model, mode) as found:
        model.features(image, prompt=prompt)
    return found


@contextmanager
def _watched(model: PromptedClassifier, mode: str) -> Iterator[dict[str, list[tuple[Array, Array]]]]:
    found: dict[str, list[tuple[Array, Array]]] = {}
    layers = [layer for layer in fake_quantizers(model) if layer.mode == mode]
    for layer in layers:
        calls = found.setdefault(layer.path.split("backbone/", 1)[-1], [])
        layer.watch = lambda given, left, calls=calls: calls.append((np.asarray(given), np.asarray(left)))
    try:
        yield found
    finally:
        for layer in layers:
            layer.watch = None


def _decibel(signal: float, noise: float) -> float | None:
    return round(10 * math.log10(signal / noise), 2) if signal > 0 and noise > 0 else None
