"""Device package: predict and go on learning from a bundle, with NumPy and one TensorFlow Lite runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_host.shared.lazy import finder

if TYPE_CHECKING:
    from firmware_host.bundle import Bundle, BundleError, DeviceError, read_bundle
    from firmware_host.classifier import DeviceClassifier
    from firmware_host.device import Device, Prediction

__all__ = ["Bundle", "BundleError", "Device", "DeviceClassifier", "DeviceError", "Prediction", "read_bundle"]
# What needs NumPy is imported when it is asked for, so that the command line can say that NumPy is missing.
__getattr__ = finder(
    __name__,
    {
        "firmware_host.bundle": ("Bundle", "BundleError", "DeviceError", "read_bundle"),
        "firmware_host.classifier": ("DeviceClassifier",),
        "firmware_host.device": ("Device", "Prediction"),
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
