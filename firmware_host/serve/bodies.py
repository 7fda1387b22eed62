"""Reading what a client sends: so much, for so long, and no more; before anything of it is decoded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from firmware_host.serve.refusals import RefusedError

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["IMAGE_BYTES", "JSON_BYTES", "STATE_BYTES", "Bodies", "fields"]

MIB = 1 << 20
JSON_BYTES = 16 << 10
IMAGE_BYTES = 8 * MIB
STATE_BYTES = 32 * MIB
HELD_BYTES = 48 * MIB  # of all requests together
SECONDS = 20.0  # until all of a body must be there


class Bodies:
    """The bodies of the requests that are being answered.

    Args:
        seconds: until all of one must be there.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """Give the body of a request; it counts as held until the context ends.

        Raises:
            RefusedError: it is longer than `limit` bytes, takes too long, or all bodies together are too large.
        """
        too_large = RefusedError(413, f"the body is longer than {limit} bytes: send less")
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
            raise too_large
        parts: list[bytes] = []
        try:
            await asyncio.wait_for(self._receive(request, limit, too_large, parts), self._seconds)
            yield b"".join(parts)
        except asyncio.TimeoutError:
            raise RefusedError(408, f"the body did not arrive within {self._seconds:g} s: send it again") from None
        finally:
            self._held -= sum(map(len, parts))

    async def _receive(self, request: Request, limit: int, too_large: RefusedError, parts: list[bytes]) -> None:
        size = 0
        async for part in request.stream():
            size += len(part)
            parts.append(part)
            self._held += len(part)
            if size > limit:
                raise too_large
            if self._held > HELD_BYTES:
                raise RefusedError(503, "too much is being sent at once: try again", retry_s=1)


def fields(body: bytes, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fields of a JSON object; raises RefusedError for another value, for one missing and for others."""
    try:
        found = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is not JSON: send an object") from None
    if not isinstance(found, dict):
        raise RefusedError(400, "the body is not a JSON object: send one")
    for name in required:
        if name not in found:
            raise RefusedError(400, f"{name} is missing: send it")
    for name in found:
        if name not in (*required, *optional):
            raise RefusedError(
                400, f"field {name[:40]!a} is not known: send {', '.join((*required, *optional)) or 'none'}"
            )
    return found
