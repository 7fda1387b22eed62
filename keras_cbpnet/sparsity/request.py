"""What `--shrink` asks for; no Keras."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras_cbpnet.errors import UserError
from keras_cbpnet.sparsity.scores import SCORES

FORM = "SCORE:mlp=SHARE,depth=N"


class Shrinking(NamedTuple):
    """What is kept of a backbone.

    Attributes:
        score: name in `SCORES`, by which hidden units are chosen.
        mlp: share of every MLP's hidden units, above 0 and at most 1.
        depth: encoder blocks, the first ones; 0: all.
    """

    score: str
    mlp: float = 1.0
    depth: int = 0


def parse(text: str) -> Shrinking:
    """Return what `text`, such as `fts:mlp=0.25,depth=3`, asks for.

    Raises:
        UserError: it has another form, an unknown score or part, or nothing or everything would be kept.
    """
    score, _, rest = text.partition(":")
    if score not in SCORES:
        raise UserError(f"--shrink {text}: unknown score {score!r}; known scores: {', '.join(SCORES)}")
    found: dict[str, Any] = {}
    for part in rest.split(",") if rest else ():
        name, _, value = part.partition("=")
        try:
            found[name] = {"mlp": float, "depth": int}[name](value)
        except (KeyError, ValueError):
            raise UserError(f"--shrink {text}: {part!r} is not understood; the form is {FORM}") from None
    shrinking = Shrinking(score, **found)
    if not 0 < shrinking.mlp <= 1:
        raise UserError(f"--shrink {text}: mlp must be above 0 and at most 1, got {shrinking.mlp:g}")
    if "depth" in found and shrinking.depth < 1:
        raise UserError(f"--shrink {text}: depth must be from 1 on, got {shrinking.depth}")
    if shrinking[1:] == Shrinking(score)[1:]:
        raise UserError(f"--shrink {text} keeps everything; the form is {FORM}")
    return shrinking
