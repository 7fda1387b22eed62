"""Quantization recipes: what each makes of backbone.tflite. To add one, add its line to `RECIPES`."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DEFAULT", "RECIPES", "Recipe", "recipes_help"]


class Recipe(NamedTuple):
    """One recipe.

    Args:
        summary: for the help text.
        quantized_weights: whether dense and convolutional operators have int8 constants.
        quantized_activations: whether what flows between the operators is int8, from the image to the feature. The
            converter then takes its ranges from the model's fake quantizers, and those that none of them holds from
            representative images. With float activations the fake quantizers are off: float islands would remain
            between int8 operators, slower and less accurate.
    """

    summary: str
    quantized_weights: bool
    quantized_activations: bool

    @property
    def mixed(self) -> bool:
        """Whether operators take int8 weights and float activations together."""
        return self.quantized_weights and not self.quantized_activations

    def describe(self) -> dict[str, str]:
        """Return what the manifest says of it."""
        flags = {"weights": self.quantized_weights, "activations": self.quantized_activations}
        described = {name: "int8" if quantized else "float32" for name, quantized in flags.items()}
        if self.quantized_weights:
            described.update(dense_scales="per_tensor", convolution_scales="per_channel")
        return described


RECIPES = {
    "int8": Recipe("int8 in every operator", True, True),
    "hybrid": Recipe("int8 weights, float activations", True, False),
    "float32": Recipe("no quantization", False, False),
}
DEFAULT = "int8"


def recipes_help() -> str:
    """Return the help text of `--recipe`."""
    return "quantization: " + "; ".join(f"{name}, {recipe.summary}" for name, recipe in RECIPES.items())
