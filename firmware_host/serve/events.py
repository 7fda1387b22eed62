"""What happens on a device, told to everybody who listens (server-sent events)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from firmware_host.serve.refusals import RefusedError

__all__ = ["Hub"]

LISTENERS = 16  # at most at once
BACKLOG = 256  # events held for a listener that is slow; the oldest are dropped
HEARTBEAT_S = 15.0  # so that a listener who is gone is noticed


class Hub:
    """Tells events from any thread to listeners in any event loop.

    Attributes:
        joined: number of listeners that have come so far.
    """

    def __init__(self) -> None:
        self.joined = 0
        self._lock = threading.Lock()
        self._listeners: list[_Listener] = []
        self._closed = False

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Tell every listener."""
        message = f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"
        with self._lock:
            for listener in self._listeners:
                listener.tell(message)

    def close(self) -> None:
        """End every listener's stream."""
        with self._lock:
            self._closed = True
            for listener in self._listeners:
                listener.tell(None)

    def listen(self) -> AsyncIterator[str]:
        """Return a stream of events, as text; raises RefusedError where too many listen already."""
        with self._lock:
            if len(self._listeners) >= LISTENERS:
                raise RefusedError(503, f"{LISTENERS} listen already: close a page", retry_s=5)
        return self._stream()

    async def _stream(self) -> AsyncIterator[str]:
        listener = _Listener()
        with self._lock:
            self._listeners.append(listener)
            self.joined += 1
            if self._closed:
                listener.tell(None)
        try:
            yield ": listening\n\n"
            while True:
                message = await listener.next()
                if message is None:
                    return
                yield message
        finally:
            with self._lock:
                self._listeners.remove(listener)


class _Listener:
    """One who listens, in the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        self._messages: deque[str | None] = deque(maxlen=BACKLOG)

    def tell(self, message: str | None) -> None:
        """Add a message, from any thread; None ends the stream."""
        self._messages.append(message)
        self._loop.call_soon_threadsafe(self._told.set)

    async def next(self) -> str | None:
        """Return the next message, or a comment after a while without one."""
        while not self._messages:  # a note of one already taken may come late
            self._told.clear()
            if self._messages:  # one came between
                break
            try:
                await asyncio.wait_for(self._told.wait(), HEARTBEAT_S)
            except asyncio.TimeoutError:
                return ": still here\n\n"
        return self._messages.popleft()
