"""Quantization recipes: what each makes of backbone.tflite. To add one, add its line to `RECIPES`."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["AUTO", "INTEGER", "OF_TARGET", "RECIPES", "Recipe", "recipes_for", "recipes_help"]


class Recipe(NamedTuple):
    """One recipe.

    Args:
        summary: for the help text.
        quantized_weights: whether dense and convolutional operators have int8 constants.
        quantized_activations: whether what flows into and out of these operators is int8, from the image to the
            feature. The converter then takes its ranges from the model's fake quantizers, and those that none of them
            holds from representative images. With float activations the fake quantizers are off: float islands would
            remain between int8 operators, slower and less accurate.
        islands: whether attention, norms and residual sums are float32 all the same, see `tflite_file.islands`.
    """

    summary: str
    quantized_weights: bool
    quantized_activations: bool
    islands: bool = False

    @property
    def integer(self) -> bool:
        """Whether every operator is int8, as accelerators ask."""
        return self.quantized_activations and not self.islands

    @property
    def dynamic(self) -> bool:
        """Whether operators take int8 weights and float activations together, whose range they find in every call."""
        return self.quantized_weights and not self.quantized_activations

    def describe(self) -> dict[str, str]:
        """Return what the manifest says of it."""
        flags = {"weights": self.quantized_weights, "activations": self.quantized_activations}
        described = {name: "int8" if quantized else "float32" for name, quantized in flags.items()}
        if self.islands:
            described["attention_norms_sums"] = "float32"
        if self.quantized_weights:
            described.update(dense_scales="per_tensor", convolution_scales="per_channel")
        return described


RECIPES = {
    "mixed": Recipe("int8 dense layers, float attention, norms and residual sums", True, True, islands=True),
    "int8": Recipe("int8 in every operator", True, True),
    "hybrid": Recipe("int8 weights, float activations", True, False),
    "float32": Recipe("no quantization", False, False),
}
AUTO = "auto"
# What AUTO stands for: backbone.tflite, and files beside it for runtimes that prefer them (`shared.runtimes`).
OF_TARGET: dict[str, tuple[str, ...]] = {"linux": ("int8", "hybrid"), "micro": ("int8",)}
INTEGER = "int8"  # what accelerators take


def recipes_for(name: str, target: str) -> tuple[str, ...]:
    """Return the recipe of that name; for AUTO those of `target`."""
    return OF_TARGET[target] if name == AUTO else (name,)


def recipes_help() -> str:
    """Return the help text of `--recipe`."""
    chosen = ", ".join(f"{' and '.join(names)} for --target {target}" for target, names in OF_TARGET.items())
    return f"quantization: {AUTO}, {chosen}; " + "; ".join(f"{name}, {each.summary}" for name, each in RECIPES.items())
