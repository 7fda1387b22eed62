"""How often a device is right, over all classes and by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.images import ImageLike
from firmware_host.images.ahead import Take
from firmware_host.learning.learner import Progress
from firmware_host.prediction import Prediction
from firmware_host.shared.names import known_name

__all__ = ["Seen", "accuracy", "check_lengths"]

Seen = Optional[Callable[[ImageLike, str, Prediction], None]]  # takes image, label, and what the device says of it


def accuracy(
    classes: Sequence[str],
    predict: Callable[[Array], Prediction],
    read: Callable[[Sequence[ImageLike]], Iterator[Take]],
    images: Sequence[ImageLike],
    labels: Sequence[str],
    progress: Progress,
    seen: Seen,
) -> dict[str, Any]:
    """Return what `Device.evaluate` returns; raises DeviceError as it does.

    Args:
        classes: that the device knows.
        predict: pixels [H, W, 3] to what the device says of them.
        read: images to what gives the pixels of each.
        images: at least one.
        labels: a class name for each image.
        progress: as of `Device.evaluate`.
        seen: as of `Device.evaluate`.
    """
    check_lengths(images, labels)
    labels = [known_name(label, classes) for label in labels]
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise DeviceError(
            f"unknown label {', '.join(repr(name) for name in unknown)}: the device knows "
            f"{', '.join(classes) or 'none'}; teach it with learn, or leave these images out"
        )
    hits: dict[str, list[bool]] = {name: [] for name in classes}
    for done, (image, name, take) in enumerate(zip(images, labels, read(images)), 1):
        found = predict(take())
        hits[name].append(found.label == name)
        if seen:
            seen(image, name, found)
        if progress:
            progress("evaluating", done, len(labels))
    per_class = {name: sum(right) / len(right) for name, right in hits.items() if right}
    return {"accuracy": sum(map(sum, hits.values())) / len(labels), "images": len(labels), "per_class": per_class}


def check_lengths(images: Sequence[ImageLike], labels: Sequence[str]) -> None:
    """Raise DeviceError unless there is a label for each of at least one image."""
    if len(images) != len(labels):
        raise DeviceError(f"{len(images)} images and {len(labels)} labels: give one label per image")
    if len(labels) == 0:
        raise DeviceError("no images: give at least one")
