"""Islands of float32 in a quantized model: attention, norms and residual sums, between int8 dense layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_cbpnet.layers.fake_quant import FakeQuantize
from keras_cbpnet.layers.layer_norm import plain_sums


@contextmanager
def islands_in_float(model: keras.layers.Layer) -> Iterator[None]:
    """Within this context `model` computes as a file of the recipe `mixed` does: nothing is rounded inside an island.

    The places inside are those that a layer lists in its `islands`.
    """
    places = [place for layer in model._flatten_layers() for place in getattr(layer, "islands", ())]
    rounding = [place for place in places if isinstance(place, FakeQuantize)]
    modes = [place.mode for place in rounding]
    for place in rounding:
        place.mode = "off"
    try:
        with plain_sums(model):
            yield
    finally:
        for place, mode in zip(rounding, modes, strict=True):
            place.mode = mode
