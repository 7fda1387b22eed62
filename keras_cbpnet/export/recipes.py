"""Quantization recipes: what each promises about the operators of backbone.tflite."""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """One recipe.

    weights: type of the constants of dense and convolutional operators.
    activations: type of what flows between the operators.
    fake_quantized: whether the converter sees the ranges that quantization-aware training learned.
    """

    weights: str
    activations: str
    fake_quantized: bool

    def describe(self) -> dict[str, str]:
        """Return what the manifest says of it."""
        described = {"weights": self.weights, "activations": self.activations}
        if self.weights == "int8":
            described.update(dense_scales="per_tensor", convolution_scales="per_channel")
        return described


RECIPES = {
    "int8": Recipe("int8", "int8", fake_quantized=True),
    # With the fake quantizers on, float islands remain between int8 operators: slower and less accurate.
    "hybrid": Recipe("int8", "float32", fake_quantized=False),
    "float32": Recipe("float32", "float32", fake_quantized=False),
}
