"""A device in a house: one service, its camera, its broker, Frigate and a folder of lessons, put together."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Optional, Union

from firmware_host.home.broker import Broker, Login, Received
from firmware_host.home.commands import COMMANDS, Commands
from firmware_host.home.dataset import Dataset
from firmware_host.home.discovery import Described, announcements
from firmware_host.home.events import Events
from firmware_host.home.frigate import Frigate
from firmware_host.home.said import Line, line
from firmware_host.home.seen import Seen
from firmware_host.home.topics import Address, Topics
from firmware_host.images.sources import NamedImage
from firmware_host.serve.events import Hub
from firmware_host.serve.live import Live
from firmware_host.serve.service import Service

__all__ = ["Home", "Place", "Tracking"]

END_S = 5.0  # for a piece of work that was begun


class Place(NamedTuple):
    """Where a device is found: the broker, how to log in there, its topics, and how Home Assistant finds it."""

    address: Address
    login: Login
    topics: Topics
    prefix: str
    device: Described


class Tracking(NamedTuple):
    """A Frigate: itself, its topic for events, how many crops must agree, and whose events count."""

    frigate: Frigate
    topic: str
    agree: int
    cameras: tuple[str, ...]
    labels: tuple[str, ...]


class _ToldHub(Hub):
    """A hub that tells one more listener, at once and in the thread where something happens."""

    def __init__(self, tell: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__()
        self._tell = tell

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Tell every listener."""
        super().publish(kind, data)
        self._tell(kind, data)


class Home:
    """A device in a house, from `start` to `close`.

    Args:
        service: the device; nobody else uses it.
        place: where it is found.
        live: its camera, if it has one.
        tracking: a Frigate, if there is one.
        dataset: a folder whose new images become lessons, if there is one.
        delays_s: between two attempts to connect, the shortest and the longest.
    """

    def __init__(
        self,
        service: Service,
        place: Place,
        live: Optional[Live] = None,
        tracking: Optional[Tracking] = None,
        dataset: Optional[Path] = None,
        delays_s: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        self._service, self._live, self._topics = service, live, place.topics
        self._lock, self._camera = threading.Lock(), ""
        self._lines: SimpleQueue[Union[Line, BaseException, None]] = SimpleQueue()
        self._commands = Commands(service, live, self._say, self._lines.put)
        self._names = {place.topics.command(name): name for name in COMMANDS}
        self._events: Optional[Events] = None
        self._event_topic = None if tracking is None else tracking.topic
        if tracking is not None:
            self._events = Events(
                tracking.frigate, service, self._say, tracking.agree, tracking.cameras, tracking.labels
            )
        self._dataset = None if dataset is None else Dataset(dataset, service, self._say)
        self._broker = Broker(
            place.address,
            place.login,
            place.topics.status,
            [*self._names, *([] if tracking is None else [tracking.topic])],
            self._received,
            self._lines.put,
            self._lines.put,
            self._connected,
            delays_s,
        )
        for topic, payload in announcements(place.prefix, place.device, place.topics, live is not None).items():
            self._broker.keep(topic, payload)
        self._seen = Seen(lambda state: self._broker.keep(place.topics.state, state))
        service.hub = _ToldHub(self._told)
        self._threads = [
            threading.Thread(target=self._guarded, args=(part.run,), name=name, daemon=True)
            for name, part in (("frigate", self._events), ("dataset", self._dataset))
            if part is not None
        ]

    def start(self, first: Optional[Iterator[NamedImage]] = None) -> None:
        """Begin; `first`: the camera's frames where it is open already."""
        if self._live is not None:
            self._live.start(first)
        self._broker.start()
        for thread in self._threads:
            thread.start()

    def lines(self) -> Iterator[Line]:
        """Yield what is said until `end`; raises an error that is a defect."""
        while True:
            line = self._lines.get()
            if line is None:
                return
            if isinstance(line, BaseException):
                raise line
            yield line

    def end(self) -> None:
        """End `lines`; may be called in a signal's handler."""
        self._lines.put(None)

    def close(self) -> None:
        """Finish what was begun, say goodbye to the broker, and let go of the device."""
        for part in (self._live, self._events, self._dataset):
            if part is not None:
                part.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(END_S)
        self._broker.close()
        self._service.close()

    def _say(self, line: Line) -> None:
        self._lines.put(line)
        self._broker.send(self._topics.result, json.dumps(line.record()))

    def _received(self, message: Received) -> None:
        name = self._names.get(message.topic)
        if name is not None:
            self._commands.take(name, message.payload, message.retained)
        elif self._events is not None and message.topic == self._event_topic:
            self._events.received(message.payload)

    def _connected(self) -> None:
        if self._events is not None:
            self._events.connected()

    def _told(self, kind: str, data: dict[str, Any]) -> None:
        """Tell the broker what happens on the device."""
        if self._live is None:
            return
        with self._lock:  # the camera's thread tells that it is lost, the device's what it saw before
            if kind == "camera":
                text = f"{data['source']} gives pictures" if data["error"] is None else data["error"]
                if text != self._camera:  # each attempt to open it again is told
                    self._lines.put(line("camera", data["error"] is None, text))
                self._camera = text
            if (kind == "camera" and data["error"] is not None) or (kind == "change" and data["change"] != "save"):
                self._seen.nothing()
            elif kind == "prediction" and data["source"] == "camera" and self._live.error is None:
                self._seen.prediction(data)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._lines.put(error)
