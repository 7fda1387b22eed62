"""Routes to answers, as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Optional

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from firmware_host.bundle import DeviceError
from firmware_host.serve.api import Api
from firmware_host.serve.bodies import Bodies
from firmware_host.serve.live import Live
from firmware_host.serve.refusals import RefusedError
from firmware_host.serve.security import Allowance, Gate, Policy, refusal_headers
from firmware_host.serve.service import Service

__all__ = ["STATIC", "build_app", "routes"]

Answer = Callable[[Request], Awaitable[Response]]
PAGE = "index.html"
STATIC = {  # what the page consists of, all of it in the folder static
    PAGE: "text/html",
    "style.css": "text/css",
    "strings.js": "text/javascript",
    "net.js": "text/javascript",
    "page.js": "text/javascript",
    "live.js": "text/javascript",
    "classes.js": "text/javascript",
    "inside.js": "text/javascript",
    "recent.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def build_app(
    service: Service,
    policy: Policy,
    allowance: Allowance,
    live: Optional[Live] = None,
    bodies: Optional[Bodies] = None,
) -> Gate:
    """Return the application; on shutdown it closes the camera and the service.

    Args:
        service: the device in use.
        policy: who may use it.
        allowance: how many changes may come.
        live: the device's own camera, if there is one.
        bodies: what reads what clients send; None: with the usual limits.
    """
    api = Api(service, allowance, bodies or Bodies(), live)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if live is not None:
            live.close()
        service.close()

    app = Starlette(
        routes=routes(api),
        exception_handlers={
            DeviceError: _bad_input,
            RefusedError: _refused,
            HTTPException: _http_error,
            Exception: _defect,
        },
        lifespan=lifespan,
    )
    return Gate(app, policy)


def routes(api: Api) -> list[Route]:
    """Return every address that is answered, with its method."""
    return [
        Route("/", _page, methods=["GET"]),
        Route("/static/{name}", _static, methods=["GET"]),
        Route("/metrics", api.metrics, methods=["GET"]),
        Route("/api/classes", _either(api.classes, api.add), methods=["GET", "POST"]),
        Route("/api/classes/forget", api.forget, methods=["POST"]),
        Route("/api/classes/rename", api.rename, methods=["POST"]),
        Route("/api/events", api.events, methods=["GET"]),
        Route("/api/frame", api.frame, methods=["GET"]),
        Route("/api/health", api.health, methods=["GET"]),
        Route("/api/memory", api.memory, methods=["GET"]),
        Route("/api/openapi.json", api.openapi, methods=["GET"]),
        Route("/api/pictures/{number}", api.picture, methods=["GET"]),
        Route("/api/predict", api.predict, methods=["POST"]),
        Route("/api/recent", api.recent, methods=["GET"]),
        Route("/api/state", _either(api.export, api.restore), methods=["GET", "POST"]),
        Route("/api/status", api.status, methods=["GET"]),
        Route("/api/teach", api.teach, methods=["POST"]),
        Route("/api/undo", api.undo, methods=["POST"]),
        Route("/api/units", api.units, methods=["GET"]),
    ]


def _either(read: Answer, write: Answer) -> Answer:
    """Return what answers a POST by `write` and everything else by `read`."""

    async def answer(request: Request) -> Response:
        return await (write if request.method == "POST" else read)(request)

    return answer


async def _page(_: Request) -> Response:
    return _file(PAGE)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        raise RefusedError(404, "there is no such file")
    return _file(name)


def _file(name: str) -> Response:
    content = resources.files("firmware_host.serve").joinpath("static", name).read_bytes()
    return Response(content, headers={"cache-control": "no-cache"}, media_type=STATIC[name])


async def _bad_input(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _refused(_: Request, error: Exception) -> Response:
    refused = error if isinstance(error, RefusedError) else RefusedError(500, str(error))
    return JSONResponse({"error": refused.reason}, refused.status, refusal_headers(refused))


async def _http_error(_: Request, error: Exception) -> Response:
    status, reason, headers = 500, str(error), None
    if isinstance(error, HTTPException):
        status, reason, headers = error.status_code, error.detail, error.headers
    return JSONResponse({"error": reason}, status, headers)


async def _defect(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"a defect of the server: {type(error).__name__}"}, 500)
