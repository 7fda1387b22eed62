"""The connection to a broker: it comes back by itself, and what was to be told meanwhile is told then.

What is retained is held here and told again after each connection, for a broker may have lost it; of what it could not
be told in between, only the newest counts. What is told once (results) is queued, by paho, until the broker has it.
"""

from __future__ import annotations

import secrets
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from paho.mqtt.client import Client, MQTTMessage, MQTTProtocolVersion
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from firmware_host.bundle import DeviceError
from firmware_host.home.said import Say, line
from firmware_host.home.topics import Address

__all__ = ["Broker", "Login", "Received"]

KEEPALIVE_S = 30
DELAYS_S = (1.0, 60.0)  # between two attempts to connect: doubled from the first to the second
QUEUED = 1000  # messages that wait for the broker
LARGEST = 1 << 20  # bytes of a message that the broker may send, unless it is told otherwise
END_S = 2.0  # to say goodbye


class Login(NamedTuple):
    """How to log in: user and password, and whether by TLS; `ca`: certificates that are trusted, None: the system's."""

    username: Optional[str] = None
    password: Optional[str] = None
    tls: bool = False
    ca: Optional[Path] = None


class Received(NamedTuple):
    """A message; `retained`: it was sent before we listened."""

    topic: str
    payload: bytes
    retained: bool


class Broker:
    """A connection to a broker, from `start` to `close`.

    Args:
        address: where it listens.
        login: how to log in.
        status: the topic for `online` and `offline`; the latter is the last will.
        subscribed: the topics to listen to.
        received: is given each message, in the connection's thread.
        say: is given a line when the connection comes and goes.
        failed: is given an error that is a defect; the connection is of no use after it.
        connected: is called after each connection.
        delays_s: between two attempts to connect, the shortest and the longest.
        begins: is called at the beginning of each connection, before anything is received.
        largest: bytes of a message that the broker may send.

    Raises:
        DeviceError: the certificates cannot be used.
    """

    def __init__(
        self,
        address: Address,
        login: Login,
        status: str,
        subscribed: Sequence[str],
        received: Callable[[Received], None],
        say: Say,
        failed: Callable[[BaseException], None],
        connected: Callable[[], None] = lambda: None,
        delays_s: tuple[float, float] = DELAYS_S,
        begins: Callable[[], None] = lambda: None,
        largest: int = LARGEST,
    ) -> None:
        self._begins, self._largest = begins, largest
        self._first: Optional[int] = None  # the subscription that a connection begins with
        self._fetched: set[str] = set()  # topics that are listened to once
        self._address, self._status, self._subscribed = address, status, subscribed
        self._received, self._say, self._failed, self._connected = received, say, failed, connected
        self._lock = threading.Lock()
        self._kept = {status: "online"}  # what is retained, by its topic
        self._there = self._closing = self._denied = False
        self._outage: Optional[str] = None  # why there is no connection, as it was said
        self._ended = threading.Event()
        self._client = self._made(login)
        self._client.reconnect_delay_set(*delays_s)  # type: ignore[arg-type]
        self._client.max_queued_messages_set(QUEUED)
        self._client.will_set(status, "offline", qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    def start(self) -> None:
        """Begin to connect, and go on until `close`."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = self._largest  # larger ones are not even sent
        # A command is about what the camera sees now: those sent while we were away must not come later.
        host, port = self._address
        self._client.connect_async(host, port, KEEPALIVE_S, clean_start=True, properties=properties)
        self._client.loop_start()

    def keep(self, topic: str, payload: str) -> None:
        """Tell what is retained: now, or after the next connection; only the newest payload of a topic counts."""
        with self._lock:
            self._kept[topic] = payload
            if self._there:
                self._client.publish(topic, payload, qos=1, retain=True)

    def send(self, topic: str, payload: str) -> None:
        """Tell something once; without a connection it waits for the next one."""
        if self._client.publish(topic, payload, qos=1).rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self._say(line("broker", False, f"{QUEUED} messages wait for it already: one is not sent"))

    @property
    def there(self) -> bool:
        """Whether there is a connection."""
        return self._there

    def retain(self, topic: str, payload: bytes) -> None:
        """Tell something that the broker retains, and that is not told again after the next connection."""
        self._client.publish(topic, payload, qos=1, retain=True)

    def fetch(self, topic: str) -> None:
        """Ask for what is retained on a topic, or the next that comes there; nothing without a connection."""
        with self._lock:
            if self._there:
                self._fetched.add(topic)
                self._client.subscribe(topic, 1)

    def close(self) -> None:
        """Say goodbye, where there is somebody to hear it, and end."""
        with self._lock:
            there, self._there, self._closing = self._there, False, True
        if there:
            goodbye = self._client.publish(self._status, "offline", qos=1, retain=True)
            if goodbye.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                goodbye.wait_for_publish(END_S)
        self._client.disconnect()
        if there:
            self._ended.wait(END_S)

    def _made(self, login: Login) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"cbpnet-{secrets.token_hex(8)}",  # two with the same one would throw each other out for ever
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        if login.username is not None:
            client.username_pw_set(login.username, login.password)
        if login.tls:
            try:
                context = ssl.create_default_context(cafile=login.ca)
            except (OSError, ssl.SSLError) as error:
                reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
                raise DeviceError(f"certificates {login.ca} cannot be used ({reason}): give a PEM file") from None
            client.tls_set_context(context)
        return client

    def _on_connect(self, client: Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._lost(f"refuses the connection ({reason})")
        else:
            with self._lock:
                self._fetched.clear()
            self._guarded(self._begins)
            self._first = client.subscribe([(topic, 1) for topic in self._subscribed])[1]

    def _on_connect_fail(self, _: Client, __: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles that
        self._lost(f"cannot be reached ({getattr(error, 'strerror', None) or error})")

    def _on_subscribe(self, client: Client, _: Any, which: int, reasons: Sequence[Any], ___: Any) -> None:
        """Tell all that is retained.

        Not before: only now has paho sent again what the broker had not acknowledged before, which may be older.
        """
        if which != self._first:
            return
        refused = [topic for topic, reason in zip(self._subscribed, reasons) if reason.is_failure]
        for topic in refused:
            self._say(line("broker", False, f"{self._address} does not let this device listen to {topic}"))
        with self._lock:
            self._there, self._outage, self._denied = True, None, False
            for topic, payload in self._kept.items():
                client.publish(topic, payload, qos=1, retain=True)
        self._say(line("broker", True, f"connected to {self._address}"))
        self._guarded(self._connected)

    def _on_publish(self, _: Client, __: Any, ___: int, reason: Any, ____: Any) -> None:
        """Say once in a connection that the broker refuses what it is told."""
        if reason.is_failure and not self._denied:
            self._denied = True
            self._say(line("broker", False, f"{self._address} does not let this device publish ({reason})"))

    def _on_disconnect(self, _: Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        if self._closing:
            self._ended.set()
        else:
            self._lost(f"is lost ({reason})")

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        with self._lock:
            if message.topic in self._fetched:
                self._fetched.discard(message.topic)
                client.unsubscribe(message.topic)
        self._guarded(lambda: self._received(Received(message.topic, bytes(message.payload), message.retain)))

    def _lost(self, why: str) -> None:
        """Say once in an outage that there is no connection."""
        with self._lock:
            self._there = False
            told, self._outage = self._outage, self._outage or why
        if told is None:
            self._say(line("broker", False, f"{self._address} {why}: trying again"))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failed(error)
            raise
