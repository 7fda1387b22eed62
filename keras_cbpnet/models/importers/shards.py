"""A model in several .safetensors files, and the list of them, `model.safetensors.index.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from keras_cbpnet.errors import UserError

Arrays = dict[str, NDArray[Any]]


def weight_map(path: Path) -> dict[str, str] | None:
    """Return the file's name for each array that the list `path` names; None where it is not such a list."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    listed = isinstance(found, dict) and found and all(isinstance(part, str) for part in found.values())
    return found if listed else None


def parts(path: Path) -> list[str]:
    """Return the names of the files that the list `path` names, which lie beside it.

    Raises:
        UserError: it is not such a list, or names a file elsewhere or of another kind.
    """
    return _names(path, weight_map(path) or {})


def _names(path: Path, listed: Mapping[str, str]) -> list[str]:
    names = sorted(set(listed.values()))
    if not names:
        raise UserError(f"{path} is not the list of a model's .safetensors files; fetch it again")
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise UserError(f"{path} names {name!r}, which is not a .safetensors file beside it; fetch it again")
    return names


def read_parts(path: Path, listed: Mapping[str, str], read: Callable[[Path], Arrays]) -> Arrays:
    """Return the arrays of all files that the list `path` names.

    Args:
        path: of the list.
        listed: what `weight_map` gives.
        read: what reads one of the files.

    Raises:
        UserError: a file is missing, or has not the arrays that the list says are in it.
    """
    arrays: Arrays = {}
    names = _names(path, listed)
    for name in names:
        part = path.with_name(name)
        if not part.is_file():
            raise UserError(f"{path} names {name}, which is not beside it; fetch all of its {len(names)} file(s)")
        found = read(part)
        wanted = [array for array, file in listed.items() if file == name]
        if missing := sorted(set(wanted) - found.keys()):
            raise UserError(f"{part} has no {missing[0]}, which {path} says is in it; fetch both again")
        arrays |= {array: found[array] for array in wanted}
    return arrays
