"""The two errors of the device package; they live here so that the bundle contract imports nothing else."""

from __future__ import annotations

__all__ = ["BundleError", "DeviceError"]


class DeviceError(ValueError):
    """Bad input to the device package: one line that says what, which value and what to do."""


class BundleError(DeviceError):
    """A bundle that is incomplete, changed, or of another schema version."""
