"""Who may do what: every request passes here before anything else looks at it.

- Host must be a name of this server: a page whose name was pointed here (DNS rebinding) has another one.
- Where there is a token, it comes in a header or in a cookie that only this server's own pages can send.
- What changes something comes from this server's own page or from a program, in a content type that no form can send.
- Nothing is shared with other origins, and the page may load nothing from elsewhere.
"""

from __future__ import annotations

import hmac
import ipaddress
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import urlsplit

from firmware_host.serve.refusals import RefusedError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Allowance", "Gate", "Policy"]

READ = ("GET", "HEAD")
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
TYPES = ("application/json", "application/octet-stream", "image/")  # none that a form of another page can send
COOKIE_S = 180 * 24 * 3600
# A redirect would count as the site that the link was on, to which the browser gives no cookie; this page is our own.
ARRIVED = '<!doctype html><meta http-equiv="refresh" content="0;url=/"><a href="/">&rarr;</a>'


@dataclass(frozen=True)
class Policy:
    """Who may use a server.

    Attributes:
        hosts: the names by which it may be called, in lower case, without port.
        token: what a client must show; None: nothing, for a server that only this machine can reach.
        secure: whether it is reached by TLS.
        port: where it listens; two servers on one machine have two cookies.
    """

    hosts: frozenset[str]
    token: Optional[str] = None
    secure: bool = False
    port: int = 0

    @property
    def cookie(self) -> str:
        """Name of the cookie that holds the token."""
        return f"cbpnet-{self.port}"

    def check(self, request: Request) -> None:
        """Raise RefusedError for a request that may not be answered."""
        self._check_host(request)
        by_program = self._authorised(request.headers.get("authorization", "").partition("Bearer ")[2])
        by_page = self._authorised(request.cookies.get(self.cookie, ""))
        if self.token is not None and not by_program and not by_page:
            raise RefusedError(401, "open the address that the server printed, with its token, or send it as a header")
        self._check_origin(request, by_program)
        if request.method not in READ:
            content = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if not content.startswith(TYPES):
                raise RefusedError(415, f"content type {content[:40]!a} is not taken: send {', '.join(TYPES)}*")

    def token_of(self, request: Request) -> Optional[str]:
        """Return the token where a browser was sent here by the printed address; raises RefusedError as `check`."""
        self._check_host(request)
        given = request.query_params.get("token")
        if self.token is None or given is None or request.method != "GET" or request.url.path != "/":
            return None
        if not self._authorised(given):
            raise RefusedError(401, "the token is not that of this server: open the address that it printed last")
        return given

    def _authorised(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def _check_host(self, request: Request) -> None:
        called = _host_of(request.headers.get("host", ""))
        here = (request.scope.get("server") or ("", 0))[0]
        if called not in self.hosts and not (called and called == here and _is_address(called)):
            raise RefusedError(421, f"host {called[:80]!a} is not a name of this server: add it with --allow-host")

    def _check_origin(self, request: Request, by_program: bool) -> None:
        """Refuse what another page makes a browser send."""
        own = f"{'https' if self.secure else 'http'}://{request.headers.get('host', '')}"
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "none")
        opened = request.headers.get("sec-fetch-mode") == "navigate" and request.url.path == "/"
        if (origin is not None and origin.lower() != own.lower()) or (
            site not in ("same-origin", "none") and not (request.method in READ and opened)
        ):
            raise RefusedError(403, "a page of another origin may not use this server")
        if origin is None and request.method not in READ and self.token is not None and not by_program:
            raise RefusedError(403, "a write by cookie needs an Origin: programs send the token as a header")


def _host_of(header: str) -> str:
    """Return the name in a Host header, in lower case, without port; empty for what is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    """Return whether a host is an address: only names can be pointed elsewhere."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Gate:
    """Middleware that lets through what the policy allows, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, JSONResponse, Response

        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                extra = {**HEADERS, "cache-control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in extra.items() if n.encode() not in present),
                ]
            await send(message)

        request = Request(scope)
        answer: Optional[Response] = None
        try:
            token = self._policy.token_of(request)
            if token is None:
                self._policy.check(request)
            else:
                answer = HTMLResponse(ARRIVED)
                answer.set_cookie(
                    self._policy.cookie, token, COOKIE_S, httponly=True, samesite="strict", secure=self._policy.secure
                )
        except RefusedError as refused:
            answer = JSONResponse({"error": refused.reason}, refused.status)
        await (answer or self._app)(scope, receive, guarded)


class Allowance:
    """How many lessons and other changes may come: so many a second, a few more at once.

    Args:
        per_second: of them, in the long run.
        burst: of them at once.
        clock: seconds.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = per_second, float(burst), clock
        self._left, self._at = self._burst, clock()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take one; raises RefusedError where none is left."""
        with self._lock:
            now = self._clock()
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left < 1.0:
                raise RefusedError(429, f"more than {self._rate:g} changes a second: wait", retry_s=1)
            self._left -= 1.0


def refusal_headers(refused: RefusedError) -> dict[str, Any]:
    """Return the headers of a refusal."""
    return {} if refused.retry_s is None else {"retry-after": str(refused.retry_s)}
