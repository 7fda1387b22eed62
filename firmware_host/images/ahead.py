"""Images read by threads while the device looks at those before them: most of the time of a photo is its decoding."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Optional, TypeVar, Union

import numpy as np

from firmware_host.bundle import DeviceError, Input
from firmware_host.engines.protocol import Array
from firmware_host.images.loading import ImageLike, load_image
from firmware_host.shared.sensors.readers import IMAGE

__all__ = ["Take", "default_jobs", "read_ahead"]

MOST_JOBS = 4  # by default
T = TypeVar("T")
Take = Callable[[], Array]  # gives uint8 RGB [H, W, 3], or raises the DeviceError of the image
Work = Optional[tuple["Future[Array]", Take]]  # None: the end


def default_jobs() -> int:
    """Return how many threads read images unless told otherwise: one for each core that may be used, at most 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_JOBS)


def read_ahead(
    images: Iterable[tuple[T, Union[ImageLike, DeviceError]]],
    size: tuple[int, int],
    max_memory_mb: Optional[float],
    jobs: int,
    taken: Input = IMAGE,
) -> Iterator[tuple[T, Take]]:
    """Yield what comes with each image and what gives its pixels, in the order of `images`.

    Args:
        images: anything to know an image by, and the image, or the error in its place.
        size: as of `load_image`.
        max_memory_mb: as of `load_image`; it holds for all that the threads decode at once.
        jobs: threads, which are at most jobs + 1 files ahead; 1: none, a file is read when its pixels are taken, and
            the next image is asked for after that. Arrays are not read.
        taken: as of `load_image`.

    Raises:
        DeviceError: jobs is less than 1.
    """
    if jobs < 1:
        raise DeviceError(f"jobs is {jobs}: use 1 or more")
    work: SimpleQueue[Work] = SimpleQueue()
    threads: list[Thread] = []
    waiting: deque[tuple[T, Take]] = deque()
    try:
        for known_by, image in images:
            take: Take = partial(_load, image, size, max_memory_mb, taken)
            if jobs > 1 and not isinstance(image, (np.ndarray, DeviceError)):
                future: Future[Array] = Future()
                work.put((future, take))
                if len(threads) < jobs:
                    threads.append(Thread(target=_read, args=(work,), daemon=True))  # an interrupt waits for none
                    threads[-1].start()
                take = future.result
            elif not waiting:
                yield known_by, take
                continue
            waiting.append((known_by, take))
            if len(waiting) > jobs + 1:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _ in threads:
            work.put(None)


def _load(
    image: Union[ImageLike, DeviceError], size: tuple[int, int], max_memory_mb: Optional[float], taken: Input
) -> Array:
    if isinstance(image, DeviceError):
        raise image
    return load_image(image, size, max_memory_mb, taken)


def _read(work: SimpleQueue[Work]) -> None:
    """Read the images of a queue until its end."""
    for future, take in iter(work.get, None):
        try:
            future.set_result(take())
        except BaseException as error:  # it is raised where the pixels are taken
            future.set_exception(error)
