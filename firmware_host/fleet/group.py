"""A device in a group over MQTT: one service, its connection, and what is due from time to time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import NamedTuple, Optional, Union

from firmware_host.fleet.delta import LARGEST, Delta
from firmware_host.fleet.exchange import Exchange
from firmware_host.fleet.protocol import Taken
from firmware_host.fleet.sharing import Sharing
from firmware_host.fleet.sign import Key
from firmware_host.home.broker import DELAYS_S, Broker, Login, Received
from firmware_host.home.dataset import Dataset
from firmware_host.home.said import Line, line
from firmware_host.home.topics import Address
from firmware_host.serve.service import Service

__all__ = ["Group", "Place"]

TICK_S = 1.0  # between two looks at what is due
STATUS_S = 600.0  # between two lines about traffic
ROOM = 1 << 10  # bytes of a message beside a delta
END_S = 5.0


class Place(NamedTuple):
    """Where a group is found: the broker, how to log in there, and what the group's topics begin with."""

    address: Address
    login: Login
    topic: str


class Group:
    """A device in a group, from `start` to `close`.

    Args:
        service: the device; nobody else uses it.
        sharing: its part.
        key: the group's.
        place: where the group is found.
        every_s: seconds between two merges, at least.
        dataset: gives the folder whose new images become lessons, if there is one.
        delays_s: between two attempts to connect, the shortest and the longest.
    """

    def __init__(
        self,
        service: Service,
        sharing: Sharing,
        key: Key,
        place: Place,
        every_s: float,
        dataset: Optional[Callable[[Callable[[Line], None]], Dataset]] = None,
        delays_s: tuple[float, float] = DELAYS_S,
    ) -> None:
        self._service, self._sharing = service, sharing
        self._lines: SimpleQueue[Union[Line, BaseException, None]] = SimpleQueue()
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._ended = threading.Event()
        self._dataset = None if dataset is None else dataset(self._lines.put)
        status = f"{place.topic}/status/{sharing.device}"
        wire = _Wire()
        self.exchange = Exchange(
            _InThread(service, sharing),
            sharing.peers,
            sharing.expected,
            key,
            place.topic,
            wire,
            lambda good, text: self._lines.put(line("fleet", good, text)),
            every_s,
            time.monotonic(),
        )
        self._broker = wire.broker = Broker(
            place.address,
            place.login,
            status,
            self.exchange.subscribed,
            self._received,
            self._lines.put,
            self._lines.put,
            lambda: None,
            delays_s,
            lambda: self._events.put(lambda: self.exchange.connected(time.monotonic())),
            LARGEST + ROOM,
        )
        self._threads = [threading.Thread(target=self._guarded, args=(self._run,), name="fleet", daemon=True)]
        if self._dataset is not None:
            work = self._dataset.run
            self._threads.append(threading.Thread(target=self._guarded, args=(work,), name="dataset", daemon=True))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def lines(self) -> Iterator[Line]:
        """Yield what is said until `end`; raises DeviceError where the device cannot take part any more."""
        while True:
            said = self._lines.get()
            if said is None:
                return
            if isinstance(said, BaseException):
                raise said
            yield said

    def end(self) -> None:
        """End `lines`; may be called in a signal's handler."""
        self._lines.put(None)

    def close(self) -> None:
        """Finish what was begun, say goodbye to the broker, and let go of the device."""
        self._ended.set()
        if self._dataset is not None:
            self._dataset.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(END_S)
        self._broker.close()
        self._service.close()

    def status(self) -> Line:
        """Return the line about devices and traffic."""
        traffic = self.exchange.traffic(time.monotonic())
        text = (
            f"{self.exchange.devices} devices; {traffic.sent:,} bytes sent and {traffic.received:,} received, "
            f"{traffic.per_hour:,.0f} an hour; {self.exchange.refused} messages refused"
        )
        return line("fleet", True, text)

    def _run(self) -> None:
        """Do what comes and what is due, until the end; the first merge comes before the connection."""
        told_at = time.monotonic()
        self.exchange.tick(told_at)
        self._broker.start()
        while not self._ended.is_set():
            try:
                self._events.get(timeout=TICK_S)()
                while True:
                    self._events.get_nowait()()
            except Empty:
                pass
            now = time.monotonic()
            self.exchange.tick(now)
            if now - told_at >= STATUS_S:
                told_at = now
                self._lines.put(self.status())

    def _received(self, message: Received) -> None:
        self._events.put(lambda: self.exchange.received(message.topic, message.payload, time.monotonic()))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._lines.put(error)


class _InThread:
    """A device's part, in the device's own thread."""

    def __init__(self, service: Service, sharing: Sharing) -> None:
        self._service, self._sharing = service, sharing

    @property
    def device(self) -> str:
        return self._sharing.device

    @property
    def changed(self) -> bool:
        return self._service.later(lambda: self._sharing.changed).result()

    def take(self, deltas: dict[str, Delta]) -> Taken:
        return self._service.later(lambda: self._sharing.take(deltas)).result()


class _Wire:
    """The broker, as an exchange sees it."""

    broker: Broker

    @property
    def there(self) -> bool:
        return self.broker.there

    def publish(self, topic: str, payload: bytes) -> None:
        self.broker.retain(topic, payload)

    def fetch(self, topic: str) -> None:
        self.broker.fetch(topic)
