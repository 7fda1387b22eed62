"""One device, used by many clients: its work happens in one thread, a lesson is saved before it is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Optional, TypeVar

from firmware_host.bundle import DeviceError
from firmware_host.device import Device, Prediction
from firmware_host.engines.protocol import Array
from firmware_host.images.watch import Watch
from firmware_host.learning.sightings import Sightings
from firmware_host.process_memory import resident_memory_mb
from firmware_host.serve.events import Hub
from firmware_host.serve.pictures import Pictures
from firmware_host.serve.refusals import RefusedError

__all__ = ["Service", "checked_label"]

WAITING = 64  # pieces of work at most
LABEL_LENGTH = 100
T = TypeVar("T")


class Service:
    """What clients do with a device. Every method but `do`, `later` and `close` runs in the device's own thread.

    Attributes:
        hub: where every event is told.
        pictures: what was just taught and predicted.
        revision: number of changes so far; what is known is the same wherever it is.
        counts: what happened since the start, for monitoring.
    """

    def __init__(self, device: Device) -> None:
        self.device, self.hub, self.pictures = device, Hub(), Pictures()
        self.revision = 0
        self.counts: Counter[str] = Counter()
        self.latency_ms: Optional[float] = None
        self.unsaved = False
        self._sightings = Sightings()
        self._pool = ThreadPoolExecutor(1, "device")
        self._waiting = 0
        self._lock = threading.Lock()
        self._hold: Optional[str] = None  # lessons with this mark are taken back together
        self._together = contextlib.ExitStack()

    def later(self, work: Callable[[], T]) -> Future[T]:
        """Return the future result of a piece of work; raises RefusedError where too much waits already."""
        with self._lock:
            if self._waiting >= WAITING:
                raise RefusedError(503, "the device is busy: try again", retry_s=1)
            self._waiting += 1
        future = self._pool.submit(work)
        future.add_done_callback(self._done)
        return future

    async def do(self, work: Callable[[], T]) -> T:
        """Do a piece of work in the device's thread and return its result."""
        return await asyncio.wrap_future(self.later(work))

    def close(self) -> None:
        """Finish the work that was begun, save what was seen, end every stream and let others write into the folder."""
        self.hub.close()
        self._pool.shutdown(wait=True)
        self._save_sightings()
        self.device.close()

    def predict(
        self, pixels: Array, source: str, frame: Optional[int] = None, watch: Optional[Watch] = None
    ) -> dict[str, Any]:
        """Predict pixels [H, W, 3], tell everybody and return the record; `watch` says whether it is settled."""
        found = self.device.predict(pixels)
        none = self._none_of_these(found)
        record = {
            **found._asdict(),
            "probabilities": dict(found.probabilities),
            "none": none,
            "doubt": 1.0 - max(none, (1.0 - none) * found.probability),
            "revision": self.revision,
            "source": source,
            "frame": frame,
            "settled": watch is None or watch.hear(found.label if found.known else None),
        }
        self.latency_ms = found.latency_ms
        self.counts["predictions"] += 1
        self.counts["prediction_us"] += round(found.latency_ms * 1e3)
        if self._sightings.due(found):
            self._save_sightings()
        record["image"] = self.pictures.predicted(pixels, record, time.monotonic())
        self.hub.publish("prediction", record)
        return record

    def teach(self, pixels: Array, label: str, hold: Optional[str] = None) -> dict[str, Any]:
        """Teach one image, save, and return the lesson's record; lessons with the same `hold` are undone together."""
        label = checked_label(label)
        self._group(hold)
        ages = self.device.knowledge.units()["age"]
        lesson = self.device.teach(pixels, label)
        now = self.device.knowledge.units()["age"]
        reset = [unit for unit, age in enumerate(now) if age < ages[unit] + lesson["steps"]]
        if lesson["rolled_back"]:
            self.counts["rollbacks"] += 1
            self.hub.publish("rollback", {"label": label, "steps": lesson["rolled_back"]})
        else:
            self.counts["lessons"] += 1
        self.counts["resets"] += lesson["replaced"]
        self._changed()
        record = {**lesson, "label": label, "image": self.pictures.taught(pixels), "revision": self.revision}
        if reset:
            self.hub.publish("reset", {"units": reset})
        self.hub.publish("lesson", record)
        return record

    def change(self, what: str, work: Callable[[], object]) -> dict[str, Any]:
        """Change what is known otherwise than by a lesson, save, and return the classes."""
        self._group(None)
        work()
        self.pictures.clear()
        self._changed()
        record = {"change": what, "revision": self.revision, "classes": self.device.knowledge.classes()}
        self.hub.publish("change", record)
        return record

    def status(self) -> dict[str, Any]:
        """Return what the status line says."""
        device, file = self.device, self.device.knowledge.saved_file
        saved = None if file is None else file.stat()
        return {
            "bundle": device.bundle.name,
            "runtime": device.runtime,
            "classes": len(device.classes),
            "slots": device.bundle.slots,
            "images_kept": device.knowledge.images_kept,
            "tells_unknown": device.knowledge.tells_unknown,
            "state_bytes": 0 if saved is None else saved.st_size,
            "saved_s": None if saved is None else round(max(time.time() - saved.st_mtime, 0.0), 1),
            "unsaved": self.unsaved,
            "latency_ms": self.latency_ms,
            "memory_mb": round(resident_memory_mb(), 1),
            "revision": self.revision,
        }

    def _changed(self) -> None:
        """Count a change and save it; where that fails, it is known until the end of this process."""
        self.revision += 1
        self._save()

    def _save_sightings(self) -> None:
        if self._sightings.waiting:
            with contextlib.suppress(RefusedError):  # it is told
                self._save()

    def _save(self) -> None:
        self._sightings.saved()  # or tried: another attempt can wait
        try:
            path = self.device.save()
        except DeviceError as error:
            self.unsaved = True
            self.hub.publish("unsaved", {"error": str(error)})
            raise RefusedError(507, f"done, but not saved: {error}") from error
        self.unsaved = False
        self.counts["saves"] += 1
        self.hub.publish("save", {"bytes": path.stat().st_size, "revision": self.revision})

    def _group(self, hold: Optional[str]) -> None:
        if hold is not None and hold == self._hold:
            return
        self._together.close()
        if hold is not None:
            self._together.enter_context(self.device.as_one_lesson())
        self._hold = hold

    def _none_of_these(self, found: Prediction) -> float:
        """Return how far an image is from every class, 0 to 1; from 1/2 on it is called unknown."""
        rate = self.device.unknown_rate
        if rate <= 0.0:
            return 0.0
        return min(max((found.novelty - (1.0 - 2.0 * rate)) / (2.0 * rate), 0.0), 1.0)

    def _done(self, _: Future[Any]) -> None:
        with self._lock:
            self._waiting -= 1


def checked_label(label: object) -> str:
    """Return a label as a client gave it; raises RefusedError for what is not a text of usual length."""
    if not isinstance(label, str) or not 0 < len(label) <= LABEL_LENGTH:
        raise RefusedError(400, f"a class name must be a text of 1 to {LABEL_LENGTH} characters: send another")
    return label
