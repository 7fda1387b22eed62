"""Names, shapes and the schema version of a bundle.

Dimensions: d features, h hidden units, C class slots.
"""

from __future__ import annotations

from firmware_host.shared.errors import BundleError

__all__ = [
    "ACCELERATOR_FILES",
    "BLOCKS",
    "FILES",
    "OPTIMIZERS",
    "OPTIONAL_FILES",
    "SCHEMA_VERSION",
    "state_shapes",
    "weight_shapes",
]

SCHEMA_VERSION = 1
FILES = (
    "manifest.json",
    "backbone.tflite",
    "head.tflite",
    "labels.txt",
    "golden.npz",
    "report.json",
    "statistics.npz",
)
ACCELERATOR_FILES = ("backbone_edgetpu.tflite",)  # beside the others where their compiler was installed
OPTIONAL_FILES = ("statistics.npz",)  # a bundle made by another program may come without
BLOCKS = ("prototype", "mlp", "residual")
OPTIMIZERS = ("adam", "sgd")

Shape = tuple[int, ...]


def weight_shapes(block: str, d: int, h: int, C: int) -> dict[str, Shape]:
    """Return the shapes of the trained tensors of a head, in contract order.

    Raises BundleError for a block that is none of `BLOCKS`.
    """
    if block not in BLOCKS:
        raise BundleError(f"unknown block {block!r}: use one of {', '.join(BLOCKS)}")
    out = C if block == "mlp" else d
    shapes: dict[str, Shape] = {"w1": (d, h), "b1": (h,), "w2": (h, out), "b2": (out,)}
    if block == "residual":
        shapes.update(w3=(d, C), b3=(C,))
    return shapes


def state_shapes(block: str, d: int, h: int, C: int, optimizer: str = "adam") -> dict[str, Shape]:
    """Return the shape of every state tensor (all float32) of a head, in contract order; `sgd` has no slots m_, v_.

    Raises BundleError for a block that is none of `BLOCKS`.
    """
    weights = weight_shapes(block, d, h, C)
    shapes = dict(weights)
    for slot in ("m_", "v_") if optimizer == "adam" else ():
        shapes.update({slot + name: shape for name, shape in weights.items()})
    shapes.update(step=(), utility=(h,), mean_activation=(h,), age=(h,), replacement_debt=())
    shapes.update(class_mask=(C,), class_mean=(C, d), class_count=(C,))
    return shapes
