"""The device's own camera: read all the time in its own thread, predicted where something moves, reopened when lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Optional

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.images import load_image
from firmware_host.images.sources import NamedImage
from firmware_host.images.watch import Watch
from firmware_host.serve.refusals import RefusedError
from firmware_host.serve.service import Service

__all__ = ["Frame", "Live"]

RETRY_S, RETRY_MOST_S = 1.0, 30.0
logger = logging.getLogger(__name__)


class Frame(NamedTuple):
    """A picture of the camera, and its number from 1 on; after a loss, the numbers go on."""

    number: int
    image: Array


class Live:
    """A camera of the device, in use until `close`.

    Args:
        service: predicts the frames.
        source: the camera's name, as it may be shown.
        opened: opens the camera and gives its frames; raises DeviceError where that fails or it stops.
        per_second: predictions a second at most.
        watch: which frames are worth one, and when the answer is settled.
    """

    def __init__(
        self,
        service: Service,
        source: str,
        opened: Callable[[], Iterator[NamedImage]],
        per_second: float,
        watch: Watch,
    ) -> None:
        self.source = source
        self.error: Optional[str] = None
        self._service, self._opened, self._apart = service, opened, 1.0 / per_second
        self._watch, self._since, self._losses = watch, (0, 0, 0), 0
        self._frame: Optional[Frame] = None
        self._number = 0
        self._asked = False  # a prediction waits for its turn
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    @property
    def frame(self) -> Optional[Frame]:
        """The newest frame; None where the camera gives none."""
        return self._frame

    def start(self, first: Optional[Iterator[NamedImage]] = None) -> None:
        """Begin; `first`: the camera's frames where it is open already."""
        self._first = first
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._stopped.set()
        self._thread.join(1.0)  # it may wait for a frame; the process ends without it

    def _run(self) -> None:
        wait = RETRY_S
        while not self._stopped.is_set():
            try:
                frames, self._first = self._first or self._opened(), None
                self._read(frames)
            except Exception as error:  # of a driver any kind of error; none may leave an old picture there in silence
                told = isinstance(error, DeviceError)
                if self._frame is not None:  # it worked until now
                    wait = RETRY_S
                self._lost(str(error) if told else f"{self.source} is lost ({type(error).__name__}): check it")
                self._stopped.wait(wait)
                wait = min(2 * wait, RETRY_MOST_S)

    def _lost(self, error: str) -> None:
        self._frame, self.error = None, error
        self._losses += 1
        logger.warning("camera lost: %s", error)
        self._service.hub.publish("camera", {"source": self.source, "error": error})

    def _read(self, frames: Iterator[NamedImage]) -> None:
        """Take in frames until there is no more."""
        due = 0.0
        for named in frames:
            if self._stopped.is_set():
                break
            if isinstance(named.image, DeviceError):
                continue
            image = np.ascontiguousarray(named.image)
            if self.error is not None or self._frame is None:
                self.error = None
                self._service.hub.publish("camera", {"source": self.source, "error": None})
            self._number += 1
            self._frame = Frame(self._number, image)
            if time.monotonic() >= due and not self._asked:
                due = time.monotonic() + self._apart
                self._ask()

    def _ask(self) -> None:
        self._asked = True
        try:
            self._service.later(self._predict)
        except RefusedError:  # there is enough to do already
            self._asked = False

    def _predict(self) -> None:
        self._asked = False
        frame, service = self._frame, self._service
        if frame is None:
            return
        since = (service.revision, service.hub.joined, self._losses)
        if since != self._since:  # what was said before is not what is said now, or somebody has not heard it
            self._watch.forget()
            self._since = since
        if not service.device.classes or not self._watch.wants(frame.image):
            service.hub.publish("frame", {"frame": frame.number})  # there is nothing else to say of it
            return
        pixels = load_image(frame.image, service.device.bundle.image_size, service.device.max_memory_mb)
        service.predict(pixels, "camera", frame.number, self._watch)
