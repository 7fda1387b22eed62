"""The backbone, whichever runtime computes it.

Dimensions: H, W pixels; d features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array

__all__ = ["Backbone", "Feature"]


class Feature(NamedTuple):
    """What the backbone says of one image: feature float32 [d], the same as stored [1, d], the E-prompt's index."""

    value: Array
    raw: Array
    prompt: int


class Backbone:
    """The frozen network: one image in, one feature out.

    Args:
        runner: called with `image`, uint8 [1, H, W, 3], it returns `feature` [1, d] and `prompt` [1] by name; its
            `get_output_details()` says dtype and quantization (scale, zero point) of each.
        features: d.
    """

    def __init__(self, runner: Any, features: int) -> None:
        self._runner = runner
        self._features = features
        details = runner.get_output_details()["feature"]
        quantized = details["dtype"] != np.float32
        self._scale = np.float32(details["quantization"][0] if quantized else 1)
        self._zero_point = np.float32(details["quantization"][1] if quantized else 0)
        self.dtype = np.dtype(details["dtype"])

    def __call__(self, image: Array) -> Feature:
        """Return the Feature of `image`, uint8 RGB [H, W, 3] or [1, H, W, 3], or a feature as stored, [d].

        Raises:
            DeviceError: a feature that is not of this form.
        """
        if image.ndim == 1:
            if image.dtype != self.dtype or len(image) != self._features:
                raise DeviceError(
                    f"a feature is {image.dtype} [{len(image)}], this backbone's are {self.dtype} [{self._features}]: "
                    "give features of this bundle"
                )
            return Feature(self.dequantize(image), image[None], 0)
        outputs = self._runner(image=np.ascontiguousarray(image, np.uint8).reshape((1, *image.shape[-3:])))
        raw = outputs["feature"]  # (1, d)
        return Feature(self.dequantize(raw[0]), raw, int(outputs["prompt"][0]))

    def dequantize(self, raw: Array) -> Array:
        """Return what stored features of any shape stand for, float32."""
        values: Array = (raw.astype(np.float32) - self._zero_point) * self._scale
        return values
