"""Features that another device computed: a file of rows, each with the name of its class.

    feature    int8 [N, d] (or of another type that the backbone stores)
    label      strings [N]
    backbone   string: SHA-256 of the backbone.tflite that computed them

Dimensions: N images, d features.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.images.labelled import LabelledImages
from firmware_host.shared.files import write_atomically
from firmware_host.shared.npz import read_arrays

__all__ = ["read_features", "write_features"]

SHORTEST = 16  # digits of a checksum, at least; a microcontroller need not keep all of them


def read_features(path: Path, bundle: Bundle) -> LabelledImages:
    """Return the rows of a file, as images, and their labels.

    Raises:
        DeviceError: it is damaged, lacks an array, or its features are of another backbone.
    """
    found = read_arrays(path, ("feature", "label", "backbone"))
    feature, label, backbone = found["feature"], found["label"], str(found["backbone"]).lower()
    own = str(bundle.manifest["sha256"]["backbone.tflite"]).lower()
    if len(backbone) < SHORTEST or not own.startswith(backbone):
        raise DeviceError(
            f"features {path} are of the backbone {backbone[:12]!r}, that of {bundle.path} is {own[:12]!r}: compute "
            "them by this bundle's backbone.tflite"
        )
    dtype, d = bundle.manifest["dtypes"]["feature"], bundle.feature_size
    if feature.dtype.name != dtype or feature.ndim != 2 or feature.shape[1] != d or not len(feature):
        raise DeviceError(f"features {path} are {feature.dtype} {list(feature.shape)}: write {dtype} [rows, {d}]")
    if label.dtype.kind != "U" or label.shape != (len(feature),):
        raise DeviceError(
            f"features {path}: label is {label.dtype} {list(label.shape)} for {len(feature)} rows: write a string a row"
        )
    return LabelledImages(list(feature), [str(name) for name in label])


def write_features(path: Path, bundle: Bundle, feature: Array, label: list[str]) -> None:
    """Write features as `Device.features` returns them, [N, d], and the class name of each; the file is replaced."""
    buffer = io.BytesIO()
    backbone = np.array(bundle.manifest["sha256"]["backbone.tflite"])
    np.savez(buffer, feature=feature, label=np.array(label, np.str_), backbone=backbone)
    write_atomically(path, buffer.getvalue())
