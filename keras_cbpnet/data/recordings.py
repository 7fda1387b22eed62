"""Recordings of sensors other than cameras: WiFi channel state (`csi:`) and windows of any kind (`series:`)."""

# N recordings

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from firmware_host.bundle import Input
from firmware_host.shared.folders import image_files, is_part, listed
from firmware_host.shared.sensors.csi_npz import ARRAYS, read_csi_npz
from firmware_host.shared.sensors.readers import channels_in, suffixes_of
from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.domains import load_domains
from keras_cbpnet.data.files import require_folder, user_errors
from keras_cbpnet.data.folder import load_folder
from keras_cbpnet.data.preprocessing import ImageSize, height_and_width
from keras_cbpnet.errors import UserError

__all__ = ["load_csi", "load_series"]


def load_csi(path: str, image_size: ImageSize) -> Dataset:
    """Load recordings of WiFi channel state by an Intel 5300, as pictures of time x subcarrier x antenna.

    Args:
        path: an .npz file as `firmware_host.shared.sensors.csi_npz` describes it, whose domains are settings and whose
            split goes by repetition; or a folder of .dat files of the Linux 802.11n CSI Tool, laid out as for
            `load_folder`, or with settings as for `load_domains`.
        image_size: side of the pictures in pixels, or (height, width).

    Returns:
        The data set, with domains where there are settings.

    Raises:
        UserError: path or classes missing, or a recording that is damaged or of other hardware.
    """
    file = Path(os.path.expanduser(path))
    if not (file.is_file() and path):
        return _in_folders("csi", path, image_size)
    with user_errors():
        found = read_csi_npz(file)
    parts = (np.flatnonzero(~found.tests), np.flatnonzero(found.tests))
    (x, y, domain), (x_test, y_test, domain_test) = ((found.x[i], found.y[i], found.domain[i]) for i in parts)
    try:
        return Dataset(
            x, y, x_test, y_test, found.names, found.domain_names, domain, domain_test,
            image_size=height_and_width(image_size), input=Input("csi"),
        )  # fmt: skip
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def load_series(path: str, image_size: ImageSize) -> Dataset:
    """Load windows of any sensor, .npy or .csv files of [samples, channels], as pictures of time x channel.

    Args:
        path: a folder laid out as for `load_folder`, or with settings as for `load_domains`.
        image_size: side of the pictures in pixels, or (height, width).

    Returns:
        The data set, with domains where there are settings.

    Raises:
        UserError: path or classes missing, a window that is damaged, has gaps, or other channels than the first.
    """
    return _in_folders("series", path, image_size)


def _in_folders(kind: str, path: str, image_size: ImageSize) -> Dataset:
    suffixes = " or ".join(suffixes_of(kind))
    contents = f"one folder of {suffixes} files per class"
    if kind == "csi":
        contents += f", or an .npz file with {', '.join(ARRAYS)}"
    root = require_folder(path, contents)
    with user_errors():
        first = next(image_files(root), None)
        if first is None:
            raise UserError(f"folder {path} holds no {suffixes} file; give a folder with {contents}")
        taken = Input(kind, channels_in(os.fspath(first), kind))
        load = load_domains if _has_settings(root) else load_folder
    return load(path, image_size, taken)


def _has_settings(root: Path) -> bool:
    """Return whether there are folders of settings above those of the classes: then no folder holds a recording."""
    inside = {name: listed(root / name) for name in listed(root).folders}
    if inside and all(is_part(name) and each.folders for name, each in inside.items()):
        below = [root / part / name for part, each in inside.items() for name in each.folders]
        inside = {os.fspath(folder): listed(folder) for folder in below}
    return bool(inside) and all(each.folders and not each.files for each in inside.values())
