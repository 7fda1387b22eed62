"""Cameras at a USB port, videos and RTSP streams, through OpenCV (extra `video`)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Optional

from firmware_host.bundle import DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.images.cameras.kind import SILENT_S, DamagedError, Kind, Takes, check_frame, shown
from firmware_host.terminal import without_runtime_chatter

__all__ = ["CAMERA", "RTSP", "VIDEO"]

PIXEL_BYTES = 48  # frames that the decoder holds and ours (measured: 22 with MPEG-4, 15 with Motion JPEG)


def _open_camera(source: str, max_memory_mb: Optional[float]) -> Takes:
    number = int(source.partition(":")[2])
    remedy = "check that it is plugged in and not in use (a Raspberry Pi's own camera is picamera)"
    return _opened(f"camera {number}", remedy, max_memory_mb, number)


def _open_video(source: str, max_memory_mb: Optional[float]) -> Takes:
    path = source.partition(":")[2]
    if not Path(path).is_file():
        raise DeviceError(f"video {path} does not exist or is not a file: check the path")
    return _opened(f"video {path}", "give one that OpenCV reads", max_memory_mb, path)


def _open_rtsp(source: str, max_memory_mb: Optional[float]) -> Takes:
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")  # by UDP frames come with holes
    cv2, limit = _opencv(), round(1e3 * SILENT_S)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    remedy = "check that it is switched on, its address, user and password"
    return _opened(shown(source), remedy, max_memory_mb, source, cv2.CAP_FFMPEG, limits)


def _opened(name: str, remedy: str, max_memory_mb: Optional[float], *how: Any) -> Takes:
    """Open what OpenCV calls `how`, and messages `name`."""
    cv2 = _opencv()
    with without_runtime_chatter(b""):  # our one line says it
        capture = cv2.VideoCapture(*how)
    if not capture.isOpened():
        raise DeviceError(f"{name} does not open: {remedy}")
    width, height = (int(capture.get(what)) for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    check_frame(name, width, height, PIXEL_BYTES, max_memory_mb)
    return _grabbed(capture)


def _grabbed(capture: Any) -> Takes:
    def take() -> Array:
        good, frame = capture.retrieve()
        if not good:
            raise DamagedError("OpenCV cannot decode it")
        rgb: Array = frame[:, :, ::-1]  # from BGR
        return rgb

    asked = time.monotonic()
    try:
        while capture.grab() and time.monotonic() - asked < SILENT_S:  # later it is one that the decoder still held
            yield take
            asked = time.monotonic()
    finally:
        capture.release()


def _opencv() -> Any:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # silent
    try:
        import cv2
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise DeviceError(
            f'a camera or a video needs OpenCV ({reason}): install it with pip install "keras-cbpnet[video]"'
        ) from None
    return cv2


CAMERA = Kind("camera:NUMBER", "at a USB port, 0 is the first", "camera:[0-9]{1,3}", _open_camera)
VIDEO = Kind("video:FILE", "a file", "video:.+", _open_video, ends=True)
RTSP = Kind("rtsp://HOST/...", "a network camera", r"rtsp://\S+", _open_rtsp)
