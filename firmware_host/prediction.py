"""What a device says of an image."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Prediction"]


class Prediction(NamedTuple):
    """What a device says of an image.

    Attributes:
        label: the likeliest of the classes known.
        probability: its probability among them.
        latency_ms: how long the prediction took, without reading the file.
        known: whether the image is of one of them at all: of images that are, a share of `Device.unknown_rate` is
            called unknown.
        novelty: share of images of known classes that are less novel than this one, 0 to 1; 0 where the device cannot
            tell, as without a bank.
    """

    label: str
    probability: float
    latency_ms: float
    known: bool = True
    novelty: float = 0.0
