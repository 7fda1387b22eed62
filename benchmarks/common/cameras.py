"""Simulated cameras: what a device might make of an image, for benchmarks alone.

They share nothing with the views that training makes (`keras_cbpnet.data.views`), so that a method is not measured on
the very changes that it was built on. Those marked as held out are for reporting: no setting may be chosen by them.
"""

# N images, h x w pixels of the image as it is stored, H x W of the network's input

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["CAMERAS", "HOST", "Camera"]

Picture = NDArray[np.uint8]  # (H, W, 3)
Effect = Callable[[Picture, np.random.Generator], Picture]
HOST = "host"


class Camera(NamedTuple):
    """A camera: called with images, it returns them as it takes them.

    Attributes:
        name: of the camera.
        words: what it does.
        kernel: filter by which it brings images to the network's size.
        effects: what it does to them then, one after another.
        held_out: whether it is never used in tuning.
    """

    name: str
    words: str
    kernel: Image.Resampling = Image.Resampling.BICUBIC
    effects: tuple[Effect, ...] = ()
    held_out: bool = False

    def __call__(self, images: NDArray[np.uint8], size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
        """Return uint8 [N, H, W, 3] of images uint8 [N, h, w, 3]; noise follows from `seed` and the camera's name."""
        rng = np.random.default_rng((seed, zlib.crc32(self.name.encode())))
        taken = np.empty((len(images), *size, 3), np.uint8)
        for index in range(len(images)):
            [image] = images[index : index + 1]  # a folder's images are read by rows
            picture = np.asarray(Image.fromarray(image).resize(size[::-1], self.kernel))
            for effect in self.effects:
                picture = effect(picture, rng)
            taken[index] = picture
        return taken


def gain(*factors: float, black: float = 0.0) -> Effect:
    """Return what multiplies the channels by `factors` (one for all, or three) and adds `black` grey levels."""
    return lambda picture, rng: _grey(picture * np.array(factors) + black)


def blurred(strength: float) -> Effect:
    """Return a Gaussian blur; its deviation is `strength` times the square root of a side's pixels."""

    def effect(picture: Picture, rng: np.random.Generator) -> Picture:
        return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(strength * len(picture) ** 0.5)))

    return effect


def noisy(deviation: float) -> Effect:
    """Return what adds normal noise to every value, of this deviation in grey levels."""
    return lambda picture, rng: _grey(picture + rng.normal(0.0, deviation, picture.shape))


def compressed(quality: int) -> Effect:
    """Return JPEG of this quality, and back."""

    def effect(picture: Picture, rng: np.random.Generator) -> Picture:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return effect


def vignetted(corner: float) -> Effect:
    """Return what darkens towards the corners, where the share `corner` of the light is left."""

    def effect(picture: Picture, rng: np.random.Generator) -> Picture:
        down, across = (np.linspace(-1.0, 1.0, side) for side in picture.shape[:2])
        distance = (down[:, None] ** 2 + across**2) / 2.0  # (H, W), 1 in the corners
        return _grey(picture * (1.0 - (1.0 - corner) * distance)[:, :, None])

    return effect


def rotated(degrees: float) -> Effect:
    """Return a rotation; what comes in at the edges repeats them."""

    def effect(picture: Picture, rng: np.random.Generator) -> Picture:
        height, width = picture.shape[:2]
        high, wide = height // 4, width // 4
        padded = np.pad(picture, ((high, high), (wide, wide), (0, 0)), mode="edge")
        turned = np.asarray(Image.fromarray(padded).rotate(degrees, Image.Resampling.BILINEAR))
        return turned[high : high + height, wide : wide + width]

    return effect


def coarse(share: float) -> Effect:
    """Return a sensor with `share` of the pixels along a side, whose picture is enlarged."""

    def effect(picture: Picture, rng: np.random.Generator) -> Picture:
        height, width = picture.shape[:2]
        few = Image.fromarray(picture).resize((round(share * width), round(share * height)), Image.Resampling.BOX)
        return np.asarray(few.resize((width, height), Image.Resampling.BILINEAR))

    return effect


def _grey(values: NDArray[Any]) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _named(*cameras: Camera) -> dict[str, Camera]:
    return {camera.name: camera for camera in cameras}


LINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
DIM: Sequence[Effect] = (blurred(0.15), gain(0.75, black=15), noisy(8))
COOL: Sequence[Effect] = (coarse(0.5), gain(0.8, 1.0, 1.25, black=20), compressed(30))
CAMERAS = _named(
    Camera(HOST, "the host's own: bicubic, nothing else"),
    Camera("bilinear", "resizing by the bilinear filter", LINEAR),
    Camera("nearest", "resizing by the nearest pixel", NEAREST),
    Camera("dim", "45 % of the light", effects=(gain(0.45),)),
    Camera("blurred", "out of focus", effects=(blurred(0.2),)),
    Camera("warm", "white balance: red 1.15, blue 0.7", effects=(gain(1.15, 1.0, 0.7),)),
    Camera("noisy", "noise of 16 grey levels", effects=(noisy(16),)),
    Camera("jpeg", "JPEG of quality 12", effects=(compressed(12),)),
    Camera("dim_blurred_noisy", "bilinear, blur, 75 % of the light, black level 15, noise of 8", LINEAR, tuple(DIM)),
    Camera("vignette", "35 % of the light in the corners", effects=(vignetted(0.35),), held_out=True),
    Camera("rotated", "8 degrees", effects=(rotated(8),), held_out=True),
    Camera("cool_coarse", "half the pixels, blue 1.25, red 0.8, bright, JPEG of 30", LINEAR, tuple(COOL), True),
)
