"""Cameras that answer by HTTP: a picture each time they are asked, or one after the other without end (MJPEG)."""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import urllib.error
import urllib.request
import warnings
from contextlib import closing
from functools import partial
from typing import Any, Optional
from urllib.parse import unquote, urlsplit

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.images.cameras.body import Body, BodyError
from firmware_host.images.cameras.kind import SILENT_S, DamagedError, Takes, shown, ticks
from firmware_host.process_memory import check_fits
from firmware_host.shared.decoding import bytes_to_decode
from firmware_host.shared.packages import need_pillow

__all__ = ["open_address"]

FORMATS = ("JPEG", "PNG")
COPIES = 7  # bytes a pixel besides: turned, and our array
VIEW = (640, 480)  # a JPEG is decoded at 1/2, 1/4 or 1/8 where it stays at least as large as this
BOUNDARY = re.compile(r"boundary=\"?-*([^\";,]+)", re.IGNORECASE)
PICTURES = ("image/", "application/octet-stream")
ERRORS = (OSError, http.client.HTTPException, ValueError, BodyError)  # ValueError: an address that cannot be one


def open_address(source: str, max_memory_mb: Optional[float]) -> Takes:
    """Open an address and return its frames: as `Kind.open`."""
    need_pillow()
    name = shown(source)
    try:
        ask = _asking(source)
    except ValueError as error:
        raise _lost(name, error) from None
    answer = _answer(name, ask)
    found = answer.headers.get("content-type", "")
    boundary = BOUNDARY.search(found)
    if found.lower().startswith("multipart/") and boundary:
        return _stream(name, answer, boundary[1].strip(), max_memory_mb)
    answer.close()
    if found and not found.lower().startswith(PICTURES):
        what = found.partition(";")[0][:40]
        raise DeviceError(f"{name} is {what!r}: give the address of a JPEG or PNG picture, or of an MJPEG stream")
    return _snapshots(name, ask, max_memory_mb)


def _snapshots(name: str, ask: Any, max_memory_mb: Optional[float]) -> Takes:
    for _ in ticks():
        yield partial(_snapshot, name, ask, max_memory_mb)


def _snapshot(name: str, ask: Any, max_memory_mb: Optional[float]) -> Array:
    with closing(_answer(name, ask)) as answer:
        try:
            content = Body(answer).all()
        except ERRORS as error:
            raise _lost(name, error) from None
    return _decoded(name, content, max_memory_mb)


def _stream(name: str, answer: Any, boundary: str, max_memory_mb: Optional[float]) -> Takes:
    with closing(answer):
        try:
            for content in Body(answer).parts(boundary.encode("latin-1")):
                yield partial(_decoded, name, content, max_memory_mb)
        except ERRORS as error:
            raise _lost(name, error) from None


def _decoded(name: str, content: bytes, max_memory_mb: Optional[float]) -> Array:
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its size: the limit on memory says more
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Exception:  # of a damaged file any kind of error
        raise DamagedError("not a JPEG or PNG") from None
    with image:
        full = image.size
        image.draft("RGB", VIEW)
        width, height = image.size
        if max_memory_mb is not None:
            need = bytes_to_decode(image, full, (height, width)) + COPIES * width * height
            check_fits(f"{name} ({full[0]} x {full[1]} pixels)", need, max_memory_mb)
        try:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
        except Exception:
            raise DamagedError("damaged") from None


def _asking(source: str) -> Any:
    """Return what asks a camera for its answer: with user and password where it wants them, and nobody else."""
    parts = urlsplit(source)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    handlers: list[Any] = [
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ]
    if parts.username is not None:
        known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        known.add_password(None, address, unquote(parts.username), unquote(parts.password or ""))
        handlers += [urllib.request.HTTPBasicAuthHandler(known), urllib.request.HTTPDigestAuthHandler(known)]
    opener = urllib.request.OpenerDirector()  # without files, FTP and proxies: a camera is on one's own network
    for handler in handlers:
        opener.add_handler(handler)
    return partial(opener.open, address, timeout=SILENT_S)


def _answer(name: str, ask: Any) -> Any:
    try:
        return ask()
    except ERRORS as error:
        raise _lost(name, error) from None


def _lost(name: str, error: Exception) -> DeviceError:
    """Return the line about a camera; the words of the error itself may hold the address and its password."""
    reason = getattr(error, "reason", error) if isinstance(error, urllib.error.URLError) else error
    remedy = "check that it is switched on, and the address"
    if isinstance(error, urllib.error.HTTPError):
        said = f"HTTP {error.code} {http.client.responses.get(error.code, '')}".rstrip()
        if error.code in (401, 403):
            remedy = "give http://USER:PASSWORD@HOST/..., other signs than letters and digits as %XX"
    elif isinstance(reason, ssl.SSLCertVerificationError):
        said, remedy = f"certificate: {reason.verify_message}", "name its certificate in SSL_CERT_FILE"
    elif isinstance(reason, socket.timeout):
        said = f"nothing for {SILENT_S:g} s"
    elif isinstance(reason, BodyError):
        said = str(reason)
    else:
        said = getattr(reason, "strerror", None) or type(reason).__name__
    return DeviceError(f"{name} gives no picture ({said}): {remedy}")
