"""Attention relations: what each token's query, key or value has to do with every other's, whatever their width.

MiniLMv2 (Wang et al., arXiv 2012.15828), which WECAR (arXiv 2503.07669) uses between a device and its edge.
Dimensions: B images, N tokens, D width of a backbone, A relation heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.encoder_block import EncoderBlock
from keras_cbpnet.models.backbone import Backbone

__all__ = ["HEADS", "queries_keys_values", "relation_loss", "relations_of"]

HEADS = 12  # A: teacher and student are split into as many, so that their widths may differ


def queries_keys_values(block: EncoderBlock, inputs: Any, training: bool = False) -> Any:
    """Return what attention compares in `block`, [B, 3, N, D], for its inputs [B, N, D]."""
    x = block.norm1(inputs, training=training)
    query = block.query(x) * (block.width // block.heads) ** 0.5  # whose scale is that of the scores
    return ops.stack([query, block.key(x), block.value(x)], axis=1)


def relation_loss(student: Any, teacher: Any) -> Any:
    """Return the divergence of the student's relations from the teacher's, as `queries_keys_values` [B, 3, N, D] each.

    The sum over queries, keys and values of KL(teacher, student), a mean over heads and tokens.
    """
    log_student, log_teacher = (ops.log_softmax(_scores(x), axis=-1) for x in (student, teacher))
    divergence = ops.sum(ops.exp(log_teacher) * (log_teacher - log_student), axis=-1)  # (B, 3, A, N)
    return 3.0 * ops.mean(divergence)


def relations_of(teacher: Backbone, student: Backbone) -> Callable[[Any], Any]:
    """Return what gives the teacher's `queries_keys_values` of its last block for raw images [B, H, W, 3].

    Raises:
        UserError: teacher and student see other tokens, or cannot be split into `HEADS`.
    """
    for what, values in {
        "image size": [each.config.image_size for each in (teacher, student)],
        "number of tokens": [each.embedding.tokens for each in (teacher, student)],
    }.items():
        if values[0] != values[1]:
            raise UserError(f"--relation-weight compares token by token, but the {what} is {values[0]} and {values[1]}")
    if wrong := [each.config.width for each in (teacher, student) if each.config.width % HEADS]:
        raise UserError(f"--relation-weight needs widths that are multiples of {HEADS}, got {wrong[0]}")

    def found(images: Any) -> Any:
        x = teacher.embed(images)
        for block in teacher.blocks[:-1]:
            x = block(x)
        return ops.stop_gradient(queries_keys_values(teacher.blocks[-1], x))

    return found


def _scores(x: Any) -> Any:
    """Return the scaled products of each part of [B, 3, N, D] with itself, head by head: [B, 3, A, N, N]."""
    parts = ops.reshape(x, (-1, 3, x.shape[2], HEADS, x.shape[3] // HEADS))
    parts = ops.transpose(parts, (0, 1, 3, 2, 4))  # (B, 3, A, N, D / A)
    return ops.matmul(parts, ops.transpose(parts, (0, 1, 2, 4, 3))) * (x.shape[3] // HEADS) ** -0.5
