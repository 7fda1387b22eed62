"""Device package: predict and go on learning from a bundle, with NumPy and one TensorFlow Lite runtime."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firmware_host.bundle import Bundle, BundleError, DeviceError, read_bundle
    from firmware_host.classifier import DeviceClassifier
    from firmware_host.device import Device, Prediction

__all__ = ["Bundle", "BundleError", "Device", "DeviceClassifier", "DeviceError", "Prediction", "read_bundle"]
MODULES = {"Device": "device", "DeviceClassifier": "classifier", "Prediction": "device"}  # the others are in bundle


def __getattr__(name: str) -> Any:
    """Import what needs NumPy only when it is asked for, so that the command line can say that NumPy is missing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{MODULES.get(name, 'bundle')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
