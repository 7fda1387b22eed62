"""Device package: predict and go on learning from a bundle, with NumPy and one TensorFlow Lite runtime."""

from firmware_host.bundle import Bundle, BundleError, DeviceError, read_bundle
from firmware_host.device import Device, Prediction

__all__ = ["Bundle", "BundleError", "Device", "DeviceError", "Prediction", "read_bundle"]
