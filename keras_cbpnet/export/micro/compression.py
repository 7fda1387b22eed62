"""How a microcontroller's firmware keeps weights, as `--compress` says it; `export.micro.decode` does it."""

from __future__ import annotations

from typing import NamedTuple

from keras_cbpnet.errors import UserError

BITS = (2, 7)  # of a table's index


class Compression(NamedTuple):
    """How weights are kept.

    Attributes:
        kind: `lut` or `prune`.
        bits: of an index into a table of values; 0 for `prune`.
    """

    kind: str
    bits: int = 0


def parse_compression(text: str) -> Compression:
    """Return what `lut:4` or `prune` stands for.

    Raises:
        UserError: it is neither.
    """
    kind, _, number = text.partition(":")
    if text == "prune":
        return Compression("prune")
    if kind == "lut" and number.isdecimal() and BITS[0] <= int(number) <= BITS[1]:
        return Compression("lut", int(number))
    raise UserError(f"--compress is {text!r}; give lut:B with B from {BITS[0]} to {BITS[1]} bits a weight, or prune")
