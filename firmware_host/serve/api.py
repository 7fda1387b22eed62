"""What the page and programs can ask; `openapi.json` beside this file describes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import resources
from typing import Any, Optional

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.images import load_image
from firmware_host.serve.bodies import IMAGE_BYTES, JSON_BYTES, STATE_BYTES, Bodies, fields
from firmware_host.serve.live import Live
from firmware_host.serve.metrics import metrics_text
from firmware_host.serve.pictures import as_jpeg, as_png
from firmware_host.serve.refusals import RefusedError
from firmware_host.serve.security import Allowance
from firmware_host.serve.service import Service, checked_label
from firmware_host.shared.sensors.readers import read_input_bytes

__all__ = ["Api"]

STATE_TYPE = "application/octet-stream"
OPENAPI = "openapi.json"
NUMBER_LENGTH = 16


class Api:
    """The answers.

    Args:
        service: the device in use.
        allowance: how many changes may come.
        bodies: what reads what clients send.
        live: the device's own camera, if there is one.
    """

    def __init__(self, service: Service, allowance: Allowance, bodies: Bodies, live: Optional[Live] = None) -> None:
        self._service, self._allowance, self._bodies, self._live = service, allowance, bodies, live
        self._jpeg: tuple[int, bytes] = (0, b"")

    async def health(self, _: Request) -> Response:
        """Say that the device answers."""
        await self._service.do(lambda: None)
        return JSONResponse({"ok": self._live is None or self._live.error is None})

    async def status(self, _: Request) -> Response:
        """Say what the status line says."""
        live = self._live
        camera = None if live is None else {"source": live.source, "error": live.error}
        return JSONResponse({**await self._service.do(self._service.status), "camera": camera})

    async def predict(self, request: Request) -> Response:
        """Predict the image that is sent."""
        async with self._bodies.read(request, IMAGE_BYTES) as body:
            _need_type(request, "image/")
            return JSONResponse(await self._service.do(lambda: self._service.predict(self._decoded(body), "client")))

    async def teach(self, request: Request) -> Response:
        """Teach the image that is sent, one that is held, or what the device's camera sees now."""
        if request.headers.get("content-type", "").startswith("image/"):
            label = checked_label(request.query_params.get("label"))
            hold = _hold(request.query_params.get("hold"))
            async with self._bodies.read(request, IMAGE_BYTES) as body:
                self._allowance.take()
                return JSONResponse(
                    await self._service.do(lambda: self._service.teach(self._decoded(body), label, hold))
                )
        async with self._bodies.read(request, JSON_BYTES) as body:
            _need_type(request, "application/json")
            found = fields(body, ("label",), ("image", "hold"))
        label, hold, image = checked_label(found["label"]), _hold(found.get("hold")), found.get("image")
        self._allowance.take()

        def teach() -> dict[str, Any]:
            record = self._service.teach(self._held(image), label, hold)
            if isinstance(image, int):
                self._service.pictures.settled(image)
            return record

        return JSONResponse(await self._service.do(teach))

    async def classes(self, _: Request) -> Response:
        """List the classes."""
        return JSONResponse({"classes": await self._service.do(self._service.device.knowledge.classes)})

    async def add(self, request: Request) -> Response:
        """Add a class without an image."""
        found = await self._fields(request, ("name",))
        name = checked_label(found["name"])
        return await self._change("add", lambda: self._service.device.add_class(name))

    async def rename(self, request: Request) -> Response:
        """Rename a class."""
        found = await self._fields(request, ("old", "new"))
        old, new = checked_label(found["old"]), checked_label(found["new"])
        return await self._change("rename", lambda: self._service.device.rename_class(old, new))

    async def forget(self, request: Request) -> Response:
        """Forget a class."""
        found = await self._fields(request, ("name",))
        name = checked_label(found["name"])
        return await self._change("forget", lambda: self._service.device.forget_class(name))

    async def undo(self, request: Request) -> Response:
        """Take the last lesson or other change back."""
        await self._fields(request, ())
        return await self._change("undo", self._service.device.undo)

    async def export(self, _: Request) -> Response:
        """Give all that was learned as a file."""
        content = await self._service.do(self._service.device.knowledge.export)
        return Response(content, 200, {"content-disposition": 'attachment; filename="cbpnet.state.npz"'}, STATE_TYPE)

    async def restore(self, request: Request) -> Response:
        """Replace all that was learned by such a file."""
        async with self._bodies.read(request, STATE_BYTES) as body:
            _need_type(request, STATE_TYPE)
            return await self._change("import", lambda: self._service.device.knowledge.restore(body))

    async def units(self, _: Request) -> Response:
        """Give utility and age of the hidden units."""
        return JSONResponse(await self._service.do(self._service.device.knowledge.units))

    async def memory(self, _: Request) -> Response:
        """Give the accuracy on samples drawn from the statistics."""
        return JSONResponse({"accuracy": await self._service.do(self._service.device.knowledge.accuracy)})

    async def recent(self, _: Request) -> Response:
        """List recent predictions, the most doubtful first."""
        return JSONResponse({"predictions": self._service.pictures.recent()})

    async def picture(self, request: Request) -> Response:
        """Give a picture that is held in memory."""
        number: str = request.path_params["number"]
        known = len(number) < NUMBER_LENGTH and number.isascii() and number.isdigit()
        pixels = self._service.pictures.find(int(number)) if known else None
        if pixels is None:
            raise RefusedError(404, "this picture is not held any more")
        return Response(await _aside(lambda: as_png(pixels)), media_type="image/png")

    async def frame(self, _: Request) -> Response:
        """Give what the device's camera sees."""
        frame = None if self._live is None else self._live.frame
        if frame is None:
            raise RefusedError(404, "the device has no camera in use, or it gives no picture now")
        if self._jpeg[0] != frame.number:
            self._jpeg = (frame.number, await _aside(lambda: as_jpeg(frame.image)))
        return Response(self._jpeg[1], media_type="image/jpeg")

    async def events(self, _: Request) -> Response:
        """Tell what happens, as it happens."""
        return StreamingResponse(self._service.hub.listen(), media_type="text/event-stream")

    async def metrics(self, _: Request) -> Response:
        """Give what is counted to Prometheus."""
        service = self._service
        status, classes = await service.do(lambda: (service.status(), service.device.knowledge.classes()))
        return Response(metrics_text(service, status, classes), media_type="text/plain; version=0.0.4")

    async def openapi(self, _: Request) -> Response:
        """Give the description of all this."""
        content = resources.files("firmware_host.serve").joinpath(OPENAPI).read_bytes()
        return Response(content, media_type="application/json")

    async def _fields(self, request: Request, required: tuple[str, ...]) -> dict[str, Any]:
        async with self._bodies.read(request, JSON_BYTES) as body:
            _need_type(request, "application/json")
            return fields(body, required)

    async def _change(self, what: str, work: Callable[[], object]) -> Response:
        self._allowance.take()
        return JSONResponse(await self._service.do(lambda: self._service.change(what, work)))

    def _decoded(self, body: bytes) -> Array:
        device = self._service.device
        return read_input_bytes("sent", body, device.bundle.image_size, device.max_memory_mb, device.bundle.input)

    def _held(self, image: object) -> Array:
        """Return the pixels of a held picture by its number; None: what the camera sees now."""
        if image is None:
            frame = None if self._live is None else self._live.frame
            if frame is None:
                raise DeviceError("the device has no camera in use: send an image, or start it with --source")
            found: Optional[Array] = frame.image
        else:
            if not isinstance(image, int) or isinstance(image, bool):
                raise RefusedError(400, "image must be the number of a picture that is held")
            found = self._service.pictures.find(image)
        if found is None:
            raise RefusedError(404, "this picture is not held any more")
        return load_image(found, self._service.device.bundle.image_size, self._service.device.max_memory_mb)


async def _aside(work: Callable[[], bytes]) -> bytes:
    """Do work that takes a while in another thread than the server's."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _need_type(request: Request, wanted: str) -> None:
    if not request.headers.get("content-type", "").lower().startswith(wanted):
        raise RefusedError(415, f"content type is not taken here: send {wanted}{'*' if wanted.endswith('/') else ''}")


def _hold(value: object) -> Optional[str]:
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= 64):
        raise RefusedError(400, "hold must be a text of 1 to 64 characters")
    return value
