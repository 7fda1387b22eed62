"""What a device says of an image."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Optional

from firmware_host.engines.backbone import Backbone
from firmware_host.engines.protocol import Array
from firmware_host.learning.working_state import WorkingState
from firmware_host.shared.bank.unknowns import OFFERED

__all__ = ["UNKNOWN_RATE", "Prediction", "predicted"]

UNKNOWN_RATE = 0.05


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
        group: number of the group of unknown images alike that this one belongs to; None where it is known.
        alike: how many images the device has put into that group so far, with this one; one that comes again counts
            again.
        offered: whether they are enough to be worth a name.
        probabilities: of every class known, by name and in slot order; they add up to 1, one never learned has 0.
    """

    label: str
    probability: float
    latency_ms: float
    known: bool = True
    novelty: float = 0.0
    group: Optional[int] = None
    alike: int = 0
    offered: bool = False
    probabilities: Mapping[str, float] = MappingProxyType({})


def predicted(backbone: Backbone, working: WorkingState, pixels: Array, rate: float, counted: bool) -> Prediction:
    """Return the Prediction for pixels [H, W, 3].

    Args:
        backbone: pixels to features.
        working: what the device knows.
        pixels: of the size that the backbone takes, uint8 RGB.
        rate: share of images of known classes that may be called unknown.
        counted: whether an unknown image is counted among those alike, and the camera is followed by this one.
    """
    started = time.perf_counter()
    feature = working.dequantize(backbone(pixels).raw[0])  # (d,)
    probabilities, novelty = working.judge(feature)  # (C,)
    known, group, alike = novelty <= 1.0 - rate, None, 0
    if counted and not known and working.mixture is not None:
        group, alike = working.unknowns.see(working.mixture, feature)
    latency_ms = (time.perf_counter() - started) * 1e3
    if counted and working.follows:
        working.follow(feature)
    by_name = dict(zip(working.classes, map(float, probabilities)))
    label = max(by_name, key=by_name.__getitem__)  # of equals the first
    return Prediction(label, by_name[label], latency_ms, known, novelty, group, alike, alike >= OFFERED, by_name)
