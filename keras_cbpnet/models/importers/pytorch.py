"""Entries for weights that lie as PyTorch keeps them: dense [out, in], convolution [out, in, height, width]."""

from __future__ import annotations

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.models.importers.positions import POSITION
from keras_cbpnet.models.importers.scheme import Entry, Table


def around(
    config: BackboneConfig, token: str, position: str, embedding: str, last: str, registers: str = "register_tokens"
) -> Table:
    """Return the entries around the blocks, by the names of class token, positions, patch embedding and last norm.

    `registers` is the name of register tokens, where the configuration has any.
    """
    c, d = config, config.width
    return {
        token: Entry((1, 1, d), ("embedding/class_token",)),
        **({registers: Entry((1, c.registers, d), ("embedding/register_tokens",))} if c.registers else {}),
        position: Entry((1, (c.image_size // c.patch_size) ** 2 + 1, d), (POSITION,)),
        **patches(embedding, "embedding/convolution_0", d, c.patch_size),
        **norm(last, "norm", d),
    }


def norm(theirs: str, ours: str, width: int) -> Table:
    """Return the entries of a layer normalization's `weight` and `bias`."""
    return {
        f"{theirs}.weight": Entry((width,), (f"{ours}/scale",)),
        f"{theirs}.bias": Entry((width,), (f"{ours}/offset",)),
    }


def dense(theirs: str, ours: str, inputs: int, outputs: int) -> Table:
    """Return the entries of a linear layer's `weight` and `bias`."""
    return {
        f"{theirs}.weight": Entry((outputs, inputs), (f"{ours}/kernel",), lambda w: [w.T]),
        f"{theirs}.bias": Entry((outputs,), (f"{ours}/bias",)),
    }


def layer_scale(theirs: str, ours: str, width: int) -> Table:
    """Return the entry of what multiplies a layer's outputs, where a model has that."""
    return {theirs: Entry((width,), (ours,), optional=True)}


def patches(theirs: str, ours: str, width: int, size: int) -> Table:
    """Return the entries of the patch embedding's `weight` and `bias`, a convolution of RGB."""
    return {
        f"{theirs}.weight": Entry((width, 3, size, size), (f"{ours}/kernel",), lambda w: [w.transpose(2, 3, 1, 0)]),
        f"{theirs}.bias": Entry((width,), (f"{ours}/bias",)),
    }
