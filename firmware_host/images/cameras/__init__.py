"""Cameras and videos: one module for each kind, and the table of them; another kind is a module and a row."""

from __future__ import annotations

import re
from typing import Optional

from firmware_host.bundle import DeviceError
from firmware_host.images.cameras.kind import DamagedError, Kind, Takes, shown
from firmware_host.images.cameras.opencv import CAMERA, RTSP, VIDEO
from firmware_host.images.cameras.picamera import PICAMERA
from firmware_host.images.cameras.screen import SCREEN

__all__ = ["KINDS", "DamagedError", "forms", "kind_of", "shown"]


def _open_address(source: str, max_memory_mb: Optional[float]) -> Takes:
    from firmware_host.images.cameras.web import open_address  # imports much that no other kind needs

    return open_address(source, max_memory_mb)


HTTP = Kind("http(s)://HOST/...", "a JPEG or PNG picture, or MJPEG", r"https?://\S+", _open_address)
KINDS = {  # by what is before the colon
    "picamera": PICAMERA,
    "camera": CAMERA,
    "video": VIDEO,
    "rtsp": RTSP,
    "http": HTTP,
    "https": HTTP,
    "screen": SCREEN,
}


def kind_of(source: str) -> Kind:
    """Return the kind of a source by its name; raises DeviceError where there is none."""
    kind = KINDS.get(source.partition(":")[0])
    if kind is None or not re.fullmatch(kind.pattern, source):
        raise DeviceError(f"source is {shown(source)!r}: use {forms()}")
    return kind


def forms(explained: bool = False) -> str:
    """Return how sources are named, for messages; explained: for help."""
    kinds = dict.fromkeys(KINDS.values())
    names = [f"{kind.form} ({kind.what})" if explained else kind.form for kind in kinds]
    return f"{', '.join(names[:-1])} or {names[-1]}"
