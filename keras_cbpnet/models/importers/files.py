"""A weights file as a dictionary of arrays: NumPy's .npz and Hugging Face's .safetensors, whole or in parts."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (gives NumPy the type bfloat16)
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from keras_cbpnet.errors import UserError
from keras_cbpnet.models.importers.kinds import other_kind
from keras_cbpnet.models.importers.shards import read_parts, weight_map

ENCRYPTED = 1  # bit of a zip member's flags
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return every array of the file `path`, by name, in the file's own type.

    Args:
        path: a .npz or .safetensors file, or the list of a model's .safetensors files, which lie beside it.

    Raises:
        UserError: there is no such file, it is of another kind, or it is damaged; the message says what to give.
    """
    path = Path(path)
    kinds = ("*.safetensors.index.json", "*.safetensors", "*.npz")
    if path.is_dir() and (inside := [file for kind in kinds for file in sorted(path.glob(kind))]):
        raise UserError(f"weights {path} is a folder; give the file in it, {inside[0]}")
    if not path.is_file():
        raise UserError(f"no weights file {str(path)!r}; give the path of a .npz or .safetensors file")
    try:
        if listed := weight_map(path):
            return read_parts(path, listed, read_arrays)
        if kind := other_kind(path):
            raise UserError(f"weights file {path} is {kind}")
        return _read_npz(path) if zipfile.is_zipfile(path) else _read_safetensors(path)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib, NumPy and safetensors raise many kinds for one cause
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        if path.suffix.lower() not in (".npz", ".safetensors"):
            raise UserError(
                f"weights file {path} is neither a .npz nor a .safetensors file ({reason}); give the weights in one of "
                "these, as Hugging Face and timm publish them"
            ) from error
        raise UserError(
            f"cannot read weights file {path}: not a .npz or .safetensors file, or damaged ({reason}); fetch it again"
        ) from error


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        if member.flag_bits & ENCRYPTED:
            raise UserError(f"weights file {path} is encrypted; unpack it with its password and give what was in it")
        if member.compress_type not in READABLE:
            raise UserError(
                f"weights file {path} is compressed by a method that Python does not read (number "
                f"{member.compress_type}); save it again with numpy.savez"
            )
    with np.load(path) as file:
        arrays = {name: _plain(path, name, lambda name=name: file[name]) for name in file.files}
    if len(arrays) < len(members):
        raise UserError(f"weights file {path} holds two arrays of one name; save it again with each of them once")
    return arrays


def _plain(path: Path, name: str, read: Any) -> NDArray[Any]:
    """Return the array that `read` gives; UserError where it is of Python objects or not an array at all."""
    try:
        array = read()
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"weights file {path} holds Python objects ({name}), which are not loaded; save plain arrays"
            ) from error
        raise
    if not isinstance(array, np.ndarray):
        raise UserError(f"weights file {path} holds {name}, which is not an array; give a file of numpy.savez")
    return array


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    arrays = {}
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 (it is not a dictionary)
            try:
                arrays[name] = file.get_tensor(name)
            except (AttributeError, TypeError) as error:  # a type that NumPy has no name for
                raise UserError(
                    f"weights file {path}: {name} has type {file.get_slice(name).get_dtype()}; "
                    "save the weights as float16, bfloat16 or float32"
                ) from error
    return arrays
