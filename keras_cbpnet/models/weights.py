"""Backbone weights as plain arrays: one .npz, one name per array, half precision on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import numpy as np

from firmware_host.shared.files import write_atomically
from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.fake_quant import FakeQuantize
from keras_cbpnet.models.importers import import_arrays
from keras_cbpnet.models.sizes import sizes_array, transform_arrays
from keras_cbpnet.presets import Preset, find_weights


def named_variables(layer: keras.layers.Layer, prefix: str = "") -> dict[str, keras.Variable]:
    """Return every trained variable below `layer` by its path, e.g. `block_0/query/kernel`; no quantizer ranges."""
    if isinstance(layer, FakeQuantize):
        return {}
    found = {prefix + variable.name: variable for variable in layer._trainable_variables}
    for child in layer._layers:
        found.update(named_variables(child, f"{prefix}{child.name}/"))
    return found


def copy_weights(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Give `target` the weights of `source`, whatever fake quantizers either has.

    Where only `target` has a dense layer after the last norm, it takes over that norm's scale and offset.
    """
    values: dict[str, Any] = dict(named_variables(source))
    wanted = named_variables(target)
    if "norm/scale" in values and "whitening/kernel" in wanted:
        values["whitening/kernel"] = np.diag(values["norm/scale"])
        values["whitening/bias"] = values["norm/offset"]
    for name, variable in wanted.items():
        variable.assign(np.asarray(values[name]))  # an array of this process, wherever the weights of `source` lie


def merge(branched: keras.Model, plain: keras.Model) -> None:
    """Give `plain` the weights of `branched`, of each stem kernel all branches together; see `layers.orepa`.

    Args:
        branched: a backbone, or a model around one in `backbone`.
        plain: the same without branches.
    """
    copy_weights(branched, plain)
    stems = [getattr(model, "backbone", model).embedding.convolutions for model in (branched, plain)]
    for source, target in zip(*stems, strict=True):
        target.kernel.assign(source.effective_kernel())


def save_weights(
    backbone: keras.Model,
    path: str | os.PathLike[str],
    early: Mapping[int, tuple[Any, Any]] | None = None,
    preset: BackboneConfig | None = None,
) -> None:
    """Write the weights to `path` (.npz, float16), whole or not at all.

    Args:
        backbone: built.
        path: of the file.
        early: kernel [D, D] and bias [D] that whiten the features after fewer blocks than all, by their number.
        preset: sizes that a reader knows; None: those of the backbone.

    Raises:
        UserError: a weight is NaN, or too large for float16; nothing is written.
    """
    path = Path(path)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is looked for next
        values = {**named_variables(backbone), **transform_arrays(early or {})}
        arrays: dict[str, Any] = {name: np.asarray(value).astype(np.float16) for name, value in values.items()}
    if bad := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise UserError(
            f"{path} is not written: {bad[0]} has numbers that are not finite (NaN, or too large for float16); train "
            "with a lower --learning-rate"
        )
    arrays.update(sizes_array(preset or backbone.config, backbone.config))
    write_atomically(path, lambda file: np.savez(file, **arrays), path.with_name(path.name + ".part"))


def load_preset_weights(backbone: keras.Model, preset: Preset, weights: str | os.PathLike[str] | None = None) -> None:
    """Read the weights `weights`, a file's path or hf:OWNER/NAME[@REVISION][/FILE], or those of `preset`.

    Raises:
        UserError: as `find_weights`, or the file does not fit; see `load_weights`.
    """
    if path := find_weights(preset, weights):
        load_weights(backbone, path)
    else:
        with resources.as_file(resources.files("keras_cbpnet") / "weights" / preset.weights) as path:
            load_weights(backbone, path)


def load_weights(backbone: keras.Model, path: str | os.PathLike[str]) -> None:
    """Read weights under this project's names, timm's, Hugging Face's or Google's; see `models.importers`.

    Positions of another image size are interpolated.

    Raises:
        UserError: the file cannot be read or does not fit; the message names the first array that does not fit, and no
            weight has changed.
    """
    variables = named_variables(backbone)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    arrays = import_arrays(path, backbone.config, shapes)
    for name, variable in variables.items():
        variable.assign(arrays[name])
