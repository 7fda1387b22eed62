"""Errors of the device package: ValueErrors whose one line says what, which value and what to do."""

from firmware_host.bundle.errors import BundleError, DeviceError

__all__ = ["BundleError", "DeviceError"]
