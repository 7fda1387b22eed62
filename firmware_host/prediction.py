"""What a device says of an image."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Prediction"]


class Prediction(NamedTuple):
    """The class a device sees, its probability among the classes known, and how long that took."""

    label: str
    probability: float
    latency_ms: float
