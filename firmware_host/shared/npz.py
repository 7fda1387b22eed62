"""Labelled images in an .npz file: x_train, y_train, x_test, y_test, class_names; read by host and device alike."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from firmware_host.shared.errors import DeviceError
from firmware_host.shared.kinds import ZIP, kind_of_file
from firmware_host.shared.names import distinct_names

__all__ = ["LabelledArrays", "names_in", "read_arrays", "read_npz"]

Array = np.ndarray[Any, Any]


class LabelledArrays(NamedTuple):
    """What an .npz file holds.

    Args:
        x: images of each part, uint8 RGB [N, height, width, 3].
        y: their labels, int64 [N], index into `names`.
        names: of the classes, in their normal form.
    """

    x: dict[str, Array]
    y: dict[str, Array]
    names: tuple[str, ...]


def read_npz(path: Path, parts: Sequence[str], check_size: Callable[[int], None] | None = None) -> LabelledArrays:
    """Read the `parts` (`train`, `test`) of an .npz file.

    Args:
        path: of the file.
        parts: which to read.
        check_size: called with the bytes that the arrays will take, before they are read.

    Raises:
        DeviceError: for a file that is damaged in any way or not such an .npz, and what `check_size` raises.
    """
    wanted = [f"{letter}_{part}" for part in parts for letter in "xy"] + ["class_names"]
    arrays = read_arrays(path, wanted, check_size)
    known = names_in(path, "class_names", arrays["class_names"])
    for part in parts:
        _check_part(path, part, arrays[f"x_{part}"], arrays[f"y_{part}"], len(known))
    x, y = {part: arrays[f"x_{part}"] for part in parts}, {part: arrays[f"y_{part}"].astype(np.int64) for part in parts}
    return LabelledArrays(x, y, known)


def names_in(path: Path, name: str, names: Array, kind: str = "class") -> tuple[str, ...]:
    """Return the names, of classes or of another `kind`, in the array `name` of an .npz file, in their normal form.

    Raises:
        DeviceError: they are not a vector of strings, or not all valid and different.
    """
    if names.dtype.kind != "U" or names.ndim != 1:
        raise DeviceError(f"data {path}: {name} is {names.dtype} {list(names.shape)}: write a vector of strings")
    try:
        return distinct_names((str(each) for each in names), kind)
    except DeviceError as error:
        raise DeviceError(f"data {path}: {error}") from None


def read_arrays(path: Path, wanted: Sequence[str], check_size: Callable[[int], None] | None = None) -> dict[str, Array]:
    """Return the arrays `wanted` of an .npz file; arguments and errors as of `read_npz`."""
    if path.is_dir():
        raise DeviceError(f"data {path} is a folder: give it without npz:, or an .npz file")
    if not path.is_file():
        raise DeviceError(f"data {path} does not exist: give the path of an .npz file after npz:")
    kind = kind_of_file(path)
    if kind is not None and kind is not ZIP:  # as an .npz is, whole or not
        raise DeviceError(f"data {path} is {kind.what}: {kind.remedy}")
    try:
        size = _bytes(path, wanted)
        if check_size is not None:
            check_size(size)
        with np.load(os.fspath(path), allow_pickle=False) as loaded:
            missing = [name for name in wanted if name not in loaded.files]
            if not missing:
                return {name: loaded[name] for name in wanted}
    except DeviceError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for one cause
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeviceError(f"data {path} is not a readable .npz ({reason}): write it again with numpy.savez") from error
    raise DeviceError(f"data {path} lacks {', '.join(missing)}: write {', '.join(wanted[:-1])} and {wanted[-1]}")


def _bytes(path: Path, wanted: Sequence[str]) -> int:
    """Return the bytes that these arrays take when loaded, from their headers alone."""
    size = 0
    with zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        for name in wanted:
            if f"{name}.npy" in members:
                with archive.open(f"{name}.npy") as file:
                    one = np.lib.format.read_magic(file) == (1, 0)  # type: ignore[no-untyped-call]
                    read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(file)  # type: ignore[no-untyped-call]
                if dtype.hasobject:
                    raise DeviceError(
                        f"data {path}: {name} holds Python objects: write numbers, and class_names as "
                        "numpy.array(names, dtype=str)"
                    )
                size += int(np.prod(shape, dtype=object)) * dtype.itemsize
    return size


def _check_part(path: Path, part: str, x: Array, y: Array, classes: int) -> None:
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] != 3 or 0 in x.shape[1:]:
        raise DeviceError(f"data {path}: x_{part} is {x.dtype} {list(x.shape)}: write uint8 RGB [N, height, width, 3]")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DeviceError(
            f"data {path}: y_{part} is {y.dtype} {list(y.shape)} for {len(x)} images: write one integer per image"
        )
    if len(x) == 0:
        raise DeviceError(f"data {path}: x_{part} holds no image: give at least one")
    if y.min() < 0 or y.max() >= classes:
        worst = int(y.min() if y.min() < 0 else y.max())
        raise DeviceError(f"data {path}: y_{part} contains {worst}, class_names has {classes} names: correct one")
