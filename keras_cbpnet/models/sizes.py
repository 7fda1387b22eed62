"""The sizes of a run's backbone: those of its preset, with as many encoder blocks as are asked for; no Keras.

A weights file may hold, beside the weights, whitening transforms of the features after fewer blocks, and the sizes in
which its backbone is smaller than the preset.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.config import BackboneConfig, TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.hub import is_address
from keras_cbpnet.presets import Preset, get_preset

# Dimensions: D width.
SIZES = "sizes"  # JSON, of a backbone smaller than its preset
MAY_CHANGE = ("depth", "mlp_width")
PREFIX = "whitening_d"  # before the depth, in the names of a transform's two arrays
STORED = re.compile(rf"{PREFIX}(\d+)/kernel(?:\.npy)?")

Transform = tuple[NDArray[np.float32], NDArray[np.float32]]  # kernel [D, D] and bias [D]

__all__ = [
    "PREFIX",
    "SIZES",
    "Transform",
    "backbone_of",
    "sizes",
    "sizes_array",
    "stored_depths",
    "stored_whitening",
    "transform_arrays",
    "whitened",
]


def sizes(preset: Preset, weights: str | os.PathLike[str] | None = None, depth: int = 0) -> BackboneConfig:
    """Return the sizes of a backbone.

    Args:
        preset: whose sizes they are, where the weights name no other.
        weights: a file, or an address on the hub; None: the preset's own.
        depth: encoder blocks, the first ones; 0: all that the weights have.

    Raises:
        UserError: they have fewer, or name sizes that are none.
    """
    whole = dataclasses.replace(preset.backbone, **_changes(preset, weights))
    if not 0 <= depth <= whole.depth:
        raise UserError(f"--depth must be from 1 to {whole.depth}, the blocks of {weights or preset.name}; got {depth}")
    return dataclasses.replace(whole, depth=depth or whole.depth)


def backbone_of(config: TrainConfig, depth: int | None = None) -> BackboneConfig:
    """Return the sizes of a run's backbone, or those at another depth; raises UserError as `sizes`."""
    return sizes(get_preset(config.preset), config.weights, config.depth if depth is None else depth)


def _changes(preset: Preset, weights: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return the sizes that a weights file names, of a backbone smaller than its preset."""
    with _file(preset, weights) as path:
        if path is None or f"{SIZES}.npy" not in _names(path):
            return {}
        try:
            with np.load(path) as arrays:
                found = json.loads(arrays[SIZES].tobytes())
            if found and set(found) <= set(MAY_CHANGE) and all(type(n) is int and n > 0 for n in found.values()):
                return dict(found)
            reason = f"{found!r}"
        except ValueError as error:
            reason = str(error)
    raise UserError(f"{path}: its sizes are none ({reason}); write the weights again with pretrain")


def stored_depths(preset: Preset, weights: str | os.PathLike[str] | None = None) -> tuple[int, ...]:
    """Return after how many blocks, fewer than all, the weights have a whitening transform, in order.

    Args:
        preset: whose weights are meant where none are named.
        weights: a file, or an address on the hub, where none is looked for.
    """
    with _file(preset, weights) as path:
        if path is None or not preset.backbone.whitening:
            return ()
        found = (STORED.fullmatch(name) for name in _names(path))
        return tuple(sorted(int(match[1]) for match in found if match))


def whitened(config: TrainConfig) -> tuple[TrainConfig, str]:
    """Return `config` with a whitening transform, by the first task if the weights have none at its depth, and why."""
    preset = get_preset(config.preset)
    known = (0, backbone_of(config, 0).depth, *stored_depths(preset, config.weights))
    if config.whiten != "none" or config.depth in known:
        return config, ""
    why = f"no whitening transform is stored for --depth {config.depth}: the first task's images make one"
    return dataclasses.replace(config, whiten="task"), why


def stored_whitening(preset: Preset, weights: str | os.PathLike[str] | None, depth: int) -> Transform | None:
    """Return kernel [D, D] and bias [D], float32, that whiten the features after `depth` blocks; None where none are.

    Raises:
        UserError: their shapes are not those of the preset.
    """
    if depth not in stored_depths(preset, weights):
        return None
    width = preset.backbone.width
    with _file(preset, weights) as path, np.load(path) as arrays:  # type: ignore[arg-type]
        kernel, bias = (np.asarray(arrays[f"{PREFIX}{depth}/{part}"], np.float32) for part in ("kernel", "bias"))
    if kernel.shape != (width, width) or bias.shape != (width,):
        raise UserError(
            f"{weights or preset.weights}: {PREFIX}{depth} has shapes {list(kernel.shape)} and {list(bias.shape)}, "
            f"expected {[width, width]} and {[width]}; write it again with pretrain --depths"
        )
    return kernel, bias


def _names(path: Path) -> list[str]:
    """Return the names of a file's arrays; none of a damaged one, which is refused when its weights are read."""
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return archive.namelist()
    return []


@contextlib.contextmanager
def _file(preset: Preset, weights: str | os.PathLike[str] | None) -> Iterator[Path | None]:
    """Yield the file of the weights where it is on this machine, and one of NumPy's."""
    source = os.fspath(weights or "")
    if source:
        yield None if is_address(source) or not zipfile.is_zipfile(source) else Path(source)
    elif preset.weights:
        with resources.as_file(resources.files("keras_cbpnet") / "weights" / preset.weights) as path:
            yield path
    else:
        yield None


def sizes_array(preset: BackboneConfig, smaller: BackboneConfig) -> dict[str, NDArray[np.uint8]]:
    """Return the array of a weights file that names the sizes in which a backbone is smaller than its preset."""
    pairs = {name: (getattr(preset, name), getattr(smaller, name)) for name in MAY_CHANGE}
    changes = {name: mine for name, (theirs, mine) in pairs.items() if mine != theirs}
    return {SIZES: np.frombuffer(json.dumps(changes).encode(), np.uint8)} if changes else {}


def transform_arrays(whitenings: Mapping[int, tuple[Any, Any]]) -> dict[str, Any]:
    """Return the arrays of a weights file for transforms by depth, kernel and bias each."""
    pairs = {depth: zip(("kernel", "bias"), pair, strict=True) for depth, pair in whitenings.items()}
    return {f"{PREFIX}{depth}/{part}": value for depth, pair in pairs.items() for part, value in pair}
