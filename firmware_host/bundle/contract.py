"""Names, shapes and the schema version of a bundle; every other list of blocks, tensors or files is made from these.

Dimensions: d features, h hidden units, C class slots. A shape is written as its letters: "dh" is [d, h], "" a scalar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from firmware_host.shared.errors import BundleError
from firmware_host.shared.version import __version__

__all__ = [
    "ACCELERATOR_FILES",
    "BLOCKS",
    "FILES",
    "INPUTS",
    "OPTIMIZERS",
    "OPTIONAL_FILES",
    "PAPERS",
    "SCHEMA_VERSION",
    "STATE_SCHEMA_VERSION",
    "Block",
    "Input",
    "axes",
    "file_shape",
    "state_letters",
    "state_shapes",
    "version_line",
]

SCHEMA_VERSION = 2  # from 2 on the head's file gives and takes the scalars of its state as [1]
STATE_SCHEMA_VERSION = 2  # of what a device learned, beside a bundle
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
PAPERS = ("README.md", "LICENSE", "NOTICE")  # for people, who may edit or remove them: their checksums are not held
INPUTS = ("image", "csi", "series")  # what the pictures of a bundle are made of
OPTIONAL_FILES = ("statistics.npz",)  # a bundle made by another program may come without

Shape = tuple[int, ...]


class Input(NamedTuple):
    """What the pictures that a bundle takes are made of.

    Args:
        kind: one of `INPUTS`: image files, WiFi channel state, or windows of any other sensor.
        channels: of a window, 0 for any.
    """

    kind: str = "image"
    channels: int = 0


class Block(NamedTuple):
    """One form of a head's block.

    Args:
        weights: the trained tensors and the letters of their shapes, in contract order.
        adapted: those trained at `block_rate` times the learning rate.
        last: those of the output layer, which is reset when labels change their meaning.
        scaled: whether its logits are cosines times `logit_scale`.
    """

    weights: Mapping[str, str]
    adapted: tuple[str, ...]
    last: tuple[str, ...]
    scaled: bool = False


_ADAPTER = {"w1": "dh", "b1": "h", "w2": "hd", "b2": "d"}
BLOCKS: Mapping[str, Block] = {
    "prototype": Block(_ADAPTER, adapted=tuple(_ADAPTER), last=("w2", "b2"), scaled=True),
    "mlp": Block({"w1": "dh", "b1": "h", "w2": "hC", "b2": "C"}, adapted=("w1", "b1"), last=("w2", "b2")),
    "residual": Block({**_ADAPTER, "w3": "dC", "b3": "C"}, adapted=tuple(_ADAPTER), last=("w3", "b3")),
}
OPTIMIZERS: Mapping[str, tuple[str, ...]] = {"adam": ("m_", "v_"), "sgd": ()}  # and the slots beside each weight
STATE = {  # what every head keeps beside its weights and their slots
    "step": "",
    "utility": "h",
    "mean_activation": "h",
    "age": "h",
    "replacement_debt": "",
    "class_mask": "C",
    "class_mean": "Cd",
    "class_count": "C",
}


def state_letters(block: str, optimizer: str = "adam") -> dict[str, str]:
    """Return the letters of the shape of every state tensor (all float32) of a head, in contract order.

    Raises:
        BundleError: for a block that is not in `BLOCKS`.
    """
    if block not in BLOCKS:
        raise BundleError(f"unknown block {block!r}: use one of {', '.join(BLOCKS)}")
    weights = BLOCKS[block].weights
    slots = {slot + name: letters for slot in OPTIMIZERS[optimizer] for name, letters in weights.items()}
    return {**weights, **slots, **STATE}


def axes(block: str, optimizer: str, letter: str) -> dict[str, int]:
    """Return, of the state tensors that have an axis `letter` (h: hidden units, C: class slots), which axis it is."""
    tensors = state_letters(block, optimizer)
    return {name: letters.index(letter) for name, letters in tensors.items() if letter in letters}


def state_shapes(block: str, d: int, h: int, C: int, optimizer: str = "adam") -> dict[str, Shape]:
    """Return the shape of every state tensor of a head, in contract order; raises as `state_letters`."""
    sizes = {"d": d, "h": h, "C": C}
    tensors = state_letters(block, optimizer)
    return {name: tuple(sizes[letter] for letter in letters) for name, letters in tensors.items()}


def file_shape(shape: Sequence[int]) -> Shape:
    """Return the shape under which head.tflite gives and takes a state tensor: a scalar is [1] there."""
    return tuple(shape) or (1,)


def version_line(program: str) -> str:
    """Return the first line of `program --version`: which release it is, and which schema versions it writes."""
    return f"{program} {__version__} (bundle schema {SCHEMA_VERSION}, state schema {STATE_SCHEMA_VERSION})"
