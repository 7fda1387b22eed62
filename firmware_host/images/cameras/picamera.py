"""A Raspberry Pi's own cameras, at its CSI connectors, through picamera2; OpenCV does not see these."""

from __future__ import annotations

import importlib
import os
from concurrent.futures import TimeoutError as NoFrameError
from functools import partial
from typing import Any, Optional

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.images.cameras.kind import SILENT_S, Kind, Takes, check_frame

__all__ = ["PICAMERA"]

WIDTH, HEIGHT = 640, 480
PIXEL_BYTES = 32  # the buffers of a stream and our copy
INSTALL = (
    "install it with sudo apt install python3-picamera2, and make the environment with python3 -m venv "
    "--system-site-packages, so that it is seen there"
)


def _open(source: str, max_memory_mb: Optional[float]) -> Takes:
    number = int(source.partition(":")[2] or 0)
    check_frame(source, WIDTH, HEIGHT, PIXEL_BYTES, max_memory_mb)
    package = _picamera2()
    camera = None
    try:
        camera = package.Picamera2(number)
        camera.configure(_configuration(camera))
        camera.start()
    except (IndexError, OSError, RuntimeError) as error:  # the first: there is no such camera
        if camera is not None:
            camera.close()
        reason = "there is none of this number" if isinstance(error, IndexError) else _one_line(error)
        raise DeviceError(
            f"{source} does not open ({reason}): check its cable, that nothing else uses it, and what "
            "rpicam-hello --list-cameras shows"
        ) from None
    return _captured(source, camera)


def _configuration(camera: Any) -> Any:
    """Return a configuration that shows all that the sensor sees; the mode next to a small picture would cut it."""
    width, height = camera.camera_properties.get("PixelArraySize", (WIDTH, HEIGHT))
    return camera.create_video_configuration(
        main={"format": "BGR888", "size": (WIDTH, WIDTH * height // width // 2 * 2)},  # an array of R, G, B
        raw={"size": (width // 2, height // 2)},  # every sensor has a mode that joins 2 x 2 pixels
    )


def _captured(source: str, camera: Any) -> Takes:
    try:
        while True:
            job = camera.capture_array("main", wait=False)
            try:
                image = camera.wait(job, timeout=SILENT_S)
            except NoFrameError:  # it would wait for ever
                raise DeviceError(f"{source} gave no frame for {SILENT_S:g} s: check its cable") from None
            except (OSError, RuntimeError) as error:
                raise DeviceError(f"{source} is lost ({_one_line(error)}): check its cable") from None
            yield partial(np.asarray, image)
    finally:
        camera.close()  # not stop() before it: that waits for the frame that does not come


def _picamera2() -> Any:
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
    try:
        return importlib.import_module("picamera2")
    except (ImportError, ValueError) as error:  # the latter: a part of it was built for another NumPy
        remedy = 'pip install "numpy<2"' if "numpy" in str(error) else INSTALL
        raise DeviceError(f"picamera needs picamera2 ({_one_line(error)}): {remedy}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


PICAMERA = Kind("picamera[:NUMBER]", "a Raspberry Pi's own", "picamera(:[0-9]{1,3})?", _open)
