"""The server around the application: where it listens, how long it waits for a client, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import Any, Optional

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from firmware_host.bundle import DeviceError
from firmware_host.serve.events import Hub
from firmware_host.serve.secrets import Certificate
from firmware_host.serve.security import Gate

__all__ = ["Server", "bound", "is_loopback", "names_of"]

HEAD_S = 10.0  # until all headers of a request must be there
CONNECTIONS = 64
HEADER_BYTES = 16 << 10


class _Protocol(H11Protocol):
    """uvicorn's protocol, which lets go of a client that does not finish the headers of its request."""

    head_s = HEAD_S
    _deadline: Optional[asyncio.TimerHandle] = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; wait for the rest where the headers are not complete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """End."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request as uvicorn does."""
        self._stop_waiting()
        super().on_response_complete()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self.head_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """A server for one application.

    Args:
        app: the application.
        hub: whose streams end when the server ends.
        certificate: for TLS; None: without.
        head_s: seconds until all headers of a request must be there.
    """

    def __init__(self, app: Gate, hub: Hub, certificate: Optional[Certificate] = None, head_s: float = HEAD_S) -> None:
        self._hub = hub
        tls = {} if certificate is None else {"ssl_certfile": certificate.cert, "ssl_keyfile": str(certificate.key)}
        settings: dict[str, Any] = {
            "access_log": False,  # the first address holds the token
            "h11_max_incomplete_event_size": HEADER_BYTES,
            "http": type("Protocol", (_Protocol,), {"head_s": head_s}),
            "lifespan": "on",
            "limit_concurrency": CONNECTIONS,
            "log_config": None,
            "log_level": "error",
            "loop": "asyncio",
            "proxy_headers": False,  # nobody in between is trusted
            "server_header": False,
            "timeout_graceful_shutdown": 2,
            "timeout_keep_alive": 15,
            "ws": "none",
            **tls,
        }
        super().__init__(uvicorn.Config(app, **settings))

    async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
        """End the streams first: nothing else would."""
        self._hub.close()
        await super().shutdown(sockets)

    def serve_on(self, listening: socket.socket) -> None:
        """Serve until the process is told to end."""
        with contextlib.suppress(KeyboardInterrupt):
            self.run(sockets=[listening])


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises DeviceError where it cannot."""
    if not 0 <= port < 1 << 16:
        raise DeviceError(f"port is {port}: use a number from 1 to {(1 << 16) - 1}, or 0 for any free one")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)  # asyncio sends at once where it knows that this is TCP
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(CONNECTIONS)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DeviceError(f"cannot listen on {host}, port {port} ({reason}): use another --host or --port") from None
    return listening


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def names_of(host: str, allowed: tuple[str, ...] = ()) -> frozenset[str]:
    """Return the names by which a server on `host` may be called, `allowed` by the user among them."""
    names = {"localhost", "127.0.0.1", "::1", *(name.lower().rstrip(".") for name in allowed)}
    if not is_loopback(host):
        own = socket.gethostname().lower()
        names |= {own, f"{own.partition('.')[0]}.local"}
        if host not in ("0.0.0.0", "::"):
            names.add(host.lower())
    return frozenset(name for name in names if name)
