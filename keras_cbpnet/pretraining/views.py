"""The fixed views of small images that a teacher judges once: whole images, and windows of mosaics of four."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Dimensions: N images, H x H pixels, K classes, V views, S x S pixels of a view.
WINDOW = (1.25, 2.0)  # side of a mosaic's window, in sides of an image: from mostly one image to all four


def views(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    classes: int,
    size: int,
    count: int,
    mosaics: float,
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return whole images, and windows of mosaics of four.

    A small image that is enlarged has no fine detail, while a photograph reduced to the same size has; the windows,
    which hold more pixels than one image, are reduced or hardly enlarged and so look like photographs in that respect.

    Args:
        images: uint8 [N, H, H, 3], square.
        labels: integers [N].
        classes: K.
        size: S.
        count: V, views to make; the whole images among them are at most N.
        mosaics: share of the views that are windows of mosaics, 0..1.
        seed: of the choice.

    Returns:
        uint8 [V, S, S, 3], resized by Pillow's bicubic filter, and float32 [V, K], each class's share of the view.
    """
    rng, side, total = np.random.default_rng((seed, 1)), images.shape[1], len(images)
    one_hot = np.eye(classes, dtype=np.float32)
    windows = round(mosaics * count)
    whole = np.sort(rng.permutation(total)[: count - windows])
    count = len(whole) + windows
    result = np.empty((count, size, size, 3), np.uint8)
    shares = np.concatenate([one_hot[labels[whole]], np.zeros((windows, classes), np.float32)])
    for i, row in enumerate(whole):
        result[i] = Image.fromarray(images[row]).resize((size, size), Image.Resampling.BICUBIC)
    for i in range(len(whole), count):
        rows = rng.integers(total, size=4)
        canvas = np.concatenate([np.concatenate(images[rows[:2]], axis=1), np.concatenate(images[rows[2:]], axis=1)])
        window = side * rng.uniform(*WINDOW)
        left, top = rng.random(2) * (2 * side - window)
        box = (left, top, left + window, top + window)
        result[i] = Image.fromarray(canvas).resize((size, size), Image.Resampling.BICUBIC, box=box)
        first = (side - np.array([left, top])) / window  # shares of the left column and of the upper row
        across, down = np.stack([first, 1 - first], axis=1)  # (2,), (2,)
        shares[i] = np.outer(down, across).reshape(4) @ one_hot[labels[rows]]
    return result, shares
