"""What to install when a package does not import."""

from __future__ import annotations

import contextlib
import re

from firmware_host.shared.errors import DeviceError

__all__ = ["missing_package", "need_pillow"]

OURS = ("firmware_host", "keras_cbpnet")
EXTRAS = {  # of this distribution; for every other package its own name is right
    "ai_edge_litert": "device",
    "cv2": "video",
    "flwr": "fleet",
    "huggingface_hub": "train",
    "h11": "serve",
    "keras": "train",
    "paho": "mqtt",
    "starlette": "serve",
    "tensorflow": "train",
    "tflite_micro": "micro",
    "tflite_runtime": "device-legacy",
    "uvicorn": "serve",
}
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn"}  # of a module whose package has another name
LIBRARY = re.compile(r"\b(lib[\w.+-]+?)\.so[\w.]*: cannot open shared object file")
DEBIAN = {  # packages of Debian and Raspberry Pi OS; pip brings none of these libraries
    "libGL": "libgl1",
    "libatlas": "libatlas3-base",
    "libcblas": "libatlas3-base",
    "libgfortran": "libgfortran5",
    "libglib-2.0": "libglib2.0-0",
    "libgomp": "libgomp1",
    "libjpeg": "libjpeg62-turbo",
    "liblcms2": "liblcms2-2",
    "libopenblas": "libopenblas0",
    "libopenjp2": "libopenjp2-7",
    "libtiff": "libtiff6",
    "libwebp": "libwebp7",
    "libwebpdemux": "libwebpdemux2",
    "libwebpmux": "libwebpmux3",
    "libxcb": "libxcb1",
}


def missing_package(error: ImportError) -> str:
    """Return the line about a package that does not import, with the pip command that repairs it.

    Raises `error` itself when the module is one of ours: that is a defect.
    """
    reason = _reason(error)
    quoted = re.search(r"'([\w.]+)'", reason)
    module = (error.name or (quoted[1] if quoted else "")).partition(".")[0]
    if module in OURS:
        raise error
    if lacking := _system_library(reason):
        return f"a package cannot be imported ({reason}): {lacking}"
    if "numpy" in reason and _numpy_2() is not None:  # built for NumPy 1
        return f'a package does not work with NumPy {_numpy_2()} ({reason}): pip install "numpy<2"'
    if not module:
        return f"a package cannot be imported ({reason}): install it again with pip install --force-reinstall"
    package = f'"keras-cbpnet[{EXTRAS[module]}]"' if module in EXTRAS else NAMES.get(module, module)
    return f"{module} cannot be imported ({reason}): install it with pip install {package}"


def need_pillow() -> None:
    """Raise DeviceError with what to do where Pillow is missing or damaged."""
    try:
        import PIL.Image
    except ImportError as error:
        reason = _reason(error)
        remedy = _system_library(reason) or "install it with pip install --upgrade pillow"
        raise DeviceError(f"reading images needs Pillow ({reason}): {remedy}") from None
    del PIL


def _reason(error: ImportError) -> str:
    """Return what went wrong on one line; NumPy writes a page of advice around it."""
    return " ".join(str(error).rpartition("Original error was:")[2].split())


def _system_library(reason: str) -> str:
    """Return how to get the library of the system that is missing; empty where none is."""
    found = LIBRARY.search(reason)
    if found is None:
        return ""
    package = DEBIAN.get(found[1])
    return (
        f"install it with sudo apt install {package}"
        if package
        else "install the system's package that has this library"
    )


def _numpy_2() -> str | None:
    """Return NumPy's version where it is 2 or later."""
    with contextlib.suppress(ImportError):
        import numpy as np

        if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            return np.__version__
    return None
