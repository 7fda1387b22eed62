"""The bundle contract, shared by the host that writes bundles and the device that reads them (NumPy only).

What reads arrays is imported when it is asked for: a command refuses a wrong word before NumPy is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_host.bundle.contract import (
    ACCELERATOR_FILES,
    BLOCKS,
    FILES,
    PAPERS,
    SCHEMA_VERSION,
    STATE_SCHEMA_VERSION,
    Input,
    file_shape,
    state_shapes,
    version_line,
)
from firmware_host.shared.errors import BundleError, DeviceError
from firmware_host.shared.lazy import finder

if TYPE_CHECKING:
    from firmware_host.bundle.manifest import canonical_text, manifest_sha256, write_manifest
    from firmware_host.bundle.reader import Bundle, read_bundle
    from firmware_host.shared.statistics import ClassStatistics

__all__ = [
    "ACCELERATOR_FILES",
    "BLOCKS",
    "FILES",
    "PAPERS",
    "SCHEMA_VERSION",
    "STATE_SCHEMA_VERSION",
    "Bundle",
    "BundleError",
    "ClassStatistics",
    "DeviceError",
    "Input",
    "canonical_text",
    "file_shape",
    "manifest_sha256",
    "read_bundle",
    "state_shapes",
    "version_line",
    "write_manifest",
]

__getattr__ = finder(
    __name__,
    {
        "firmware_host.bundle.manifest": ("canonical_text", "manifest_sha256", "write_manifest"),
        "firmware_host.bundle.reader": ("Bundle", "read_bundle"),
        "firmware_host.shared.statistics": ("ClassStatistics",),
    },
)
