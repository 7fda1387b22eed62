"""Views of images as other cameras might take them: for class statistics that do not depend on one camera.

A view differs from its image as a camera does, never as its subject does: in resolution, sharpness, exposure, colour,
noise and compression, not in what it shows or where.
"""

# N images, H height, W width

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["camera_views"]

Pixels = NDArray[np.uint8]
Step = Callable[[Pixels, np.random.Generator], Pixels]
REDUCING = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.HAMMING, Image.Resampling.LANCZOS)
ENLARGING = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
LEAST_RESOLUTION = 1 / 3  # share of the pixels along a side that is left
BLUR = 0.2  # largest deviation of the blur, in square roots of a side's pixels: 1.1 pixels of 32, 3 of 224
EXPOSURE = (0.5, 1.25)  # gain of all channels
GAMMA = (0.7, 1.4)
BLACK = (-20.0, 25.0)  # grey levels added
COLOUR = (0.75, 1.2)  # gain of each channel
NOISE = 16.0  # largest deviation, grey levels
QUALITY = (20, 90)  # of JPEG


def camera_views(images: Pixels, seed: int, first: int = 0) -> Pixels:
    """Return one view of each image.

    An image's view follows from `seed` and its number alone, so that images may be given in any pieces.

    Args:
        images: uint8 [N, H, W, 3], RGB.
        seed: of the views; another one for each further view of the same images.
        first: number of the first image.

    Returns:
        uint8 [N, H, W, 3].
    """
    views = np.empty_like(images)
    for index, image in enumerate(images):
        rng = np.random.default_rng((seed, first + index))
        for probability, step in STEPS:
            if rng.random() < probability:
                image = step(image, rng)
        views[index] = image
    return views


def lower_resolution(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Reduce an image to as little as a third and enlarge it again, each with one of several filters."""
    height, width = image.shape[:2]
    share = rng.uniform(LEAST_RESOLUTION, 1.0)
    down, up = (kernels[rng.integers(len(kernels))] for kernels in (REDUCING, ENLARGING))
    small = Image.fromarray(image).resize((max(1, round(share * width)), max(1, round(share * height))), down)
    return np.asarray(small.resize((width, height), up))


def blur(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Blur an image, as a lens that is out of focus, up to `BLUR`."""
    radius = rng.uniform(0.0, BLUR) * min(image.shape[:2]) ** 0.5
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def expose(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Change exposure (gain), tone (gamma) and black level of all channels together."""
    gain, gamma = (np.exp(rng.uniform(*np.log(limits))) for limits in (EXPOSURE, GAMMA))
    levels = 255.0 * gain * (np.arange(256) / 255.0) ** gamma + rng.uniform(*BLACK)
    return _rounded(levels)[image]


def tint(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Multiply every channel by a gain of its own, as another white balance does."""
    return _rounded(image * rng.uniform(*COLOUR, size=3).astype(np.float32))


def add_noise(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Add independent normal noise to every value, as a sensor in the dark does."""
    deviation = rng.uniform(0.0, NOISE)
    return _rounded(image + deviation * rng.standard_normal(image.shape, np.float32))


def compress(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Compress an image as JPEG of low to good quality, and decode it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(rng.integers(*QUALITY)))
    return np.asarray(Image.open(buffer))


def _rounded(values: NDArray[Any]) -> Pixels:
    grey: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return grey


# In the order in which they come about in a camera, each with the share of the views that it is part of.
STEPS: tuple[tuple[float, Step], ...] = (
    (0.7, lower_resolution),
    (0.5, blur),
    (0.8, expose),
    (0.4, tint),
    (0.5, add_noise),
    (0.3, compress),
)
