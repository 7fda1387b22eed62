"""Backbone weights as plain arrays: one .npz, a name an array, half precision on disk."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import keras
import numpy as np

from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.fake_quant import FakeQuantize
from keras_cbpnet.presets import Preset


def named_variables(layer: keras.layers.Layer, prefix: str = "") -> dict[str, keras.Variable]:
    """Return every trained variable below `layer` by its path, e.g. `block_0/query/kernel`; no quantizer ranges."""
    if isinstance(layer, FakeQuantize):
        return {}
    found = {prefix + variable.name: variable for variable in layer._trainable_variables}
    for child in layer._layers:
        found.update(named_variables(child, f"{prefix}{child.name}/"))
    return found


def save_weights(backbone: keras.Model, path: str | os.PathLike[str]) -> None:
    """Write the weights to `path` (.npz, float16), whole or not at all."""
    path = Path(path)
    arrays = {name: np.asarray(v, np.float16) for name, v in named_variables(backbone).items()}
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.replace(path)


def load_preset_weights(backbone: keras.Model, preset: Preset) -> None:
    """Read the weights that are shipped with `preset`.

    Raises:
        UserError: none are.
    """
    if not preset.weights:
        raise UserError(f"preset {preset.name} is shipped without weights; give a weights file")
    with resources.as_file(resources.files("keras_cbpnet") / "weights" / preset.weights) as path:
        load_weights(backbone, path)


def load_weights(backbone: keras.Model, path: str | os.PathLike[str]) -> None:
    """Read weights that `save_weights` wrote.

    Raises:
        UserError: an array is missing, unexpected or of another shape; the message lists every one.
    """
    variables = named_variables(backbone)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    wrong = [f"missing {name}" for name in sorted(set(variables) - set(arrays))]
    wrong += [f"unexpected {name}" for name in sorted(set(arrays) - set(variables))]
    wrong += [
        f"{name} has shape {list(arrays[name].shape)}, expected {list(variable.shape)}"
        for name, variable in variables.items()
        if name in arrays and arrays[name].shape != tuple(variable.shape)
    ]
    if wrong:
        raise UserError(f"{path} does not fit the backbone: {'; '.join(wrong)}")
    for name, variable in variables.items():
        variable.assign(arrays[name].astype(np.float32))
