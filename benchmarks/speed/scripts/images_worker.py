"""Devices that have seen few images and many: `images_worker.py BUNDLE FOLDER SIZE,SIZE,...`.

Each has learned its number of images of the classes of the bundle, drawn. To a number of calls the answer is, device by
device, the mean processor time of a lesson of one image and of a prediction in microseconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host import Device


def main() -> None:
    """Answer until the input ends."""
    bundle, folder, sizes = sys.argv[1:]
    devices = [taught(bundle, Path(folder) / size, int(size)) for size in sizes.split(",")]
    for line in sys.stdin:
        print(*(each for device in devices for each in timed(device, int(line))), flush=True)


def taught(bundle: str, state: Path, images: int) -> Device:
    """Return a device that has learned that many images."""
    device = Device.open(bundle, state, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(-(-images // PIECE)):
        drawn = draw(rng, device, min(images, PIECE))
        device.learn(*drawn, epochs=1)
    return device


PIECE = 256  # images of one call of learn


def draw(rng: np.random.Generator, device: Device, count: int) -> tuple[list[Any], list[str]]:
    """Return images of a colour for each class, with noise, and their labels."""
    labels = [device.classes[i % len(device.classes)] for i in range(count)]
    colours = np.random.default_rng(1).integers(40, 216, (len(device.classes), 3))
    size = device.bundle.image_size
    noise = rng.normal(0, 20, (count, *size, 3))
    images = [np.clip(colours[i % len(colours)] + noise[i], 0, 255).astype(np.uint8) for i in range(count)]
    return images, labels


def timed(device: Device, count: int) -> tuple[float, float]:
    """Return the mean microseconds of a lesson and of a prediction."""
    images, labels = draw(np.random.default_rng(2), device, count)
    began = time.process_time()
    for image, label in zip(images, labels):
        device.teach(image, label)
    lesson = time.process_time() - began
    began = time.process_time()
    for image in images:
        device.predict(image)
    return 1e6 * lesson / count, 1e6 * (time.process_time() - began) / count


if __name__ == "__main__":
    main()
