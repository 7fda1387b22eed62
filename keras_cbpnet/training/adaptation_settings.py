"""What `--adapt` asks for; `training.adaptation` does it."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_cbpnet.config import Config
from keras_cbpnet.errors import UserError


@dataclasses.dataclass(frozen=True)
class Adaptation(Config):
    """Settings of `--adapt alore:experts=4,rank=16,epochs=20,rate=0.001,batch=64`.

    Attributes:
        experts, rank: of the adapters; see `ALoRE`.
        epochs: passes over the first task's images.
        rate: AdamW's largest step size.
        batch: images of a step.
    """

    experts: int = 4
    rank: int = 16
    epochs: int = 20
    rate: float = 1e-3
    batch: int = 64


def parse_adaptation(text: str) -> Adaptation | None:
    """Return what `--adapt` asks for; None for `none`.

    Raises:
        UserError: it is not `none` or `alore` with settings that there are.
    """
    name, _, rest = text.partition(":")
    if text == "none":
        return None
    if name != "alore":
        raise UserError(f"--adapt is {text!r}; give none, or alore with settings as in alore:experts=4,rank=16")
    known: dict[str, Any] = {field.name: type(field.default) for field in dataclasses.fields(Adaptation)}
    values: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        try:
            values[key] = known[key](value)
        except (KeyError, ValueError):
            raise UserError(f"--adapt {text}: {part!r} is none of {', '.join(f'{key}=N' for key in known)}") from None
    found = Adaptation.from_dict(values)
    if min(found.experts, found.rank, found.epochs, found.batch) < 1 or found.rank % found.experts or found.rate <= 0:
        raise UserError(f"--adapt {text}: numbers must be positive, and experts divide rank")
    return found
