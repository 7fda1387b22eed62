"""The objects that Frigate has tracked: their crops are predicted, and a class they agree on becomes the sub-label."""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional, TypeVar

from firmware_host.bundle import DeviceError
from firmware_host.home.frigate import SUB_LABEL_LENGTH, Frigate
from firmware_host.home.said import REFUSALS, Say, line, refusal
from firmware_host.images.watch import Watch
from firmware_host.serve.service import Service
from firmware_host.shared.image_files import read_image_bytes

__all__ = ["Events"]

WAITING = 256  # messages at most
FOLLOWED = 256  # objects at most at once
REMEMBERED = 1024  # events that were dealt with
BEFORE_S = 600.0  # an event that ended in an outage is found again if it began this long before, at most
WAITS_S = (1.0, 2.0, 4.0, 8.0)  # between the attempts to ask Frigate about an event that has just ended
NAME = re.compile("[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")  # of an event; it becomes part of an address
T = TypeVar("T")


class Crop(NamedTuple):
    """What the device says of one crop; `label` is None where it is of no class it knows."""

    label: Optional[str]
    probability: float


class Tracked(NamedTuple):
    """An object that is followed: the times of the frames its crops are from, the last crops, whether they agree."""

    frames: set[float]
    crops: list[Crop]
    watch: Watch


class Events:
    """The events of one Frigate, dealt with one after the other.

    Args:
        frigate: where crops come from and sub-labels go to.
        service: predicts the crops.
        say: is given a line for each event that has ended.
        agree: how many crops, the last ones of an event, must be of the same class.
        cameras: those whose events count; empty: all.
        labels: the objects that count, such as person; empty: all.
        waits_s: between the attempts to ask Frigate about an event.
    """

    def __init__(
        self,
        frigate: Frigate,
        service: Service,
        say: Say,
        agree: int,
        cameras: Sequence[str] = (),
        labels: Sequence[str] = (),
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        self._frigate, self._service, self._say, self._agree = frigate, service, say, agree
        self._cameras, self._labels, self._waits_s = cameras, labels, waits_s
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(WAITING)
        self._followed: OrderedDict[str, Tracked] = OrderedDict()
        self._dealt_with: OrderedDict[str, None] = OrderedDict()
        self._since = time.time()
        self._first = True
        self._stopped = threading.Event()

    def run(self) -> None:
        """Deal with what comes until `close`."""
        while not self._stopped.is_set():
            self._queue.get()()

    def close(self) -> None:
        """Deal with no event any more."""
        self._stopped.set()
        self._put(lambda: None)

    def received(self, payload: bytes) -> None:
        """Take a message of Frigate's topic `events`; returns at once."""
        try:
            found = json.loads(payload)
            kind, event = found["type"], found["after"]
            if kind not in ("new", "update", "end"):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            self._say(line("frigate", False, f"a message of {len(payload)} bytes is not one of Frigate's events"))
            return
        self._put(lambda: self._message(event, kind == "end"))

    def connected(self) -> None:
        """Ask for the events that ended while the broker was away, of which there is one crop left.

        At the first connection there are none.
        """
        if not self._first and self._agree == 1:
            since = self._since
            self._put(lambda: self._catch_up(since - BEFORE_S))
        self._first, self._since = False, time.time()

    def _put(self, work: Callable[[], None]) -> None:
        try:
            self._queue.put_nowait(work)
        except queue.Full:
            self._say(line("frigate", False, f"{WAITING} events wait already: one is left out"))

    def _catch_up(self, when: float) -> None:
        try:
            missed = self._tried(lambda: self._frigate.ended_after(when, self._cameras, self._labels))
        except REFUSALS as error:
            self._say(refusal("frigate", error))
            return
        for event in missed:
            self._message(event, True)

    def _message(self, event: Any, ended: bool) -> None:
        try:
            name, time_s = self._wanted(event)
            if name is None:
                return
            if not ended:
                self._look(name, time_s, False)
                return
            self._dealt_with[name] = None
            while len(self._dealt_with) > REMEMBERED:
                self._dealt_with.popitem(last=False)
            self._say(line("frigate", True, f"{_described(event)}: {self._answer(name, time_s)}"))
        except REFUSALS as error:
            if ended:
                self._say(refusal("frigate", DeviceError(f"{_described(event)}: {error}")))

    def _wanted(self, event: Any) -> tuple[Optional[str], float]:
        """Return the name of an event that counts, None for others, and the time of its snapshot."""
        try:
            name, snapshot = event["id"], event.get("snapshot")
            time_s = float(snapshot["frame_time"]) if isinstance(snapshot, dict) else 0.0
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DeviceError("not one of Frigate's events") from None
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise DeviceError("its id is not one of Frigate's")
        wanted = (
            name not in self._dealt_with
            and not event.get("false_positive")
            and not event.get("sub_label")  # somebody else knows better
            and (not self._cameras or event.get("camera") in self._cameras)
            and (not self._labels or event.get("label") in self._labels)
        )
        return (name if wanted else None), time_s

    def _look(self, name: str, time_s: float, ended: bool) -> Tracked:
        """Predict the crop of an event, where it is another one than before."""
        tracked = self._followed.setdefault(name, Tracked(set(), [], Watch(self._agree)))
        while len(self._followed) > FOLLOWED:
            self._followed.popitem(last=False)
        if (time_s and time_s not in tracked.frames and self._agree > 1) or (ended and not tracked.crops):
            content = self._tried(lambda: self._frigate.crop(name, ended), ended)
            crop = self._service.later(lambda: self._predicted(name, content)).result()
            tracked.watch.hear(crop.label)
            tracked.crops.append(crop)
            tracked.frames.add(time_s)
            del tracked.crops[: -self._agree]
        return tracked

    def _answer(self, name: str, time_s: float) -> str:
        """Predict the last crop of an event that has ended, and give it a sub-label; return what was done."""
        try:
            _, crops, watch = self._look(name, time_s, True)
        finally:
            self._followed.pop(name, None)
        label = crops[-1].label
        if not watch.settled:
            said = ", ".join(crop.label or "unknown" for crop in crops)
            return f"no sub-label, {self._agree} crops must agree ({said})"
        if label is None:
            return "no sub-label, unknown"
        if len(label) > SUB_LABEL_LENGTH:
            return f"no sub-label, class {label[:SUB_LABEL_LENGTH]}... is too long for one"
        score = min(max(sum(crop.probability for crop in crops) / len(crops), 1e-6), 1.0)
        self._tried(lambda: self._frigate.answer(name, label, round(score, 6)))
        return f"{label} ({score:.0%})"

    def _predicted(self, name: str, content: bytes) -> Crop:
        device = self._service.device
        pixels = read_image_bytes(f"of event {name}", content, device.bundle.image_size, device.max_memory_mb)
        found = self._service.predict(pixels, "frigate")
        return Crop(found["label"] if found["known"] else None, float(found["probability"]))

    def _tried(self, ask: Callable[[], T], again: bool = True) -> T:
        """Ask Frigate, and again after a while where it does not answer or does not have it yet."""
        for wait_s in self._waits_s if again else ():
            try:
                return ask()
            except DeviceError:
                if self._stopped.wait(wait_s):
                    break
        return ask()


def _described(event: Any) -> str:
    """Return what to call an event in a line."""
    words = [event.get(name) for name in ("id", "camera", "label")] if isinstance(event, dict) else []
    return f"event {' '.join(word[:64] for word in words if isinstance(word, str)) or 'without a name'}"
