"""What a device takes in: images and recordings, read ahead, as pixels and as features.

Dimensions: H, W pixels; N images, d features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional, TypeVar, Union

import numpy as np

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.engines.backbone import Backbone
from firmware_host.engines.protocol import Array
from firmware_host.images import ImageLike, load_image
from firmware_host.images.ahead import Take, read_ahead
from firmware_host.learning.learner import Progress

__all__ = ["Intake"]

T = TypeVar("T")


class Intake:
    """The part of a `Device` that reads what it is given."""

    bundle: Bundle
    max_memory_mb: Optional[float]
    jobs: int
    _backbone: Backbone

    def load(self, image: ImageLike) -> Array:
        """Return an image or recording as the bundle takes it, uint8 [H, W, 3]; raises DeviceError for another."""
        return load_image(image, self.bundle.image_size, self.max_memory_mb, self.bundle.input)

    def read_ahead(self, images: Iterable[tuple[T, Union[ImageLike, DeviceError]]]) -> Iterator[tuple[T, Take]]:
        """Yield what comes with each image and what gives its pixels, in their order."""
        return read_ahead(images, self.bundle.image_size, self.max_memory_mb, self.jobs, self.bundle.input)

    def features(self, images: Sequence[ImageLike], progress: Progress = None) -> Array:
        """Return the features of images as the backbone stores them, [N, d]; all verbs take such rows as images."""
        raw = np.empty((len(images), self.bundle.feature_size), self._backbone.dtype)  # (N, d)
        for index, take in enumerate(self._read(images)):
            raw[index] = self._backbone(take()).raw[0]
            if progress:
                progress("reading", index + 1, len(images))
        return raw

    def _read(self, images: Iterable[ImageLike]) -> Iterator[Take]:
        return (take for _, take in self.read_ahead(enumerate(images)))
