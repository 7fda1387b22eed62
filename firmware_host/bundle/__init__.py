"""The bundle contract, shared by the host that writes bundles and the device that reads them (NumPy only)."""

from firmware_host.bundle.contract import (
    ACCELERATOR_FILES,
    BLOCKS,
    FILES,
    OPTIONAL_FILES,
    SCHEMA_VERSION,
    state_shapes,
    weight_shapes,
)
from firmware_host.bundle.manifest import canonical_text, manifest_sha256, write_manifest
from firmware_host.bundle.reader import Bundle, read_bundle
from firmware_host.shared.errors import BundleError, DeviceError
from firmware_host.shared.files import sha256_of_file, sync_folder, write_atomically
from firmware_host.shared.statistics import ClassStatistics

__all__ = [
    "ACCELERATOR_FILES",
    "BLOCKS",
    "FILES",
    "OPTIONAL_FILES",
    "SCHEMA_VERSION",
    "Bundle",
    "BundleError",
    "ClassStatistics",
    "DeviceError",
    "canonical_text",
    "manifest_sha256",
    "read_bundle",
    "sha256_of_file",
    "state_shapes",
    "sync_folder",
    "weight_shapes",
    "write_atomically",
    "write_manifest",
]
