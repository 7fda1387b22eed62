"""Weights files of other projects: read, recognised by their names, checked, and turned into this backbone's arrays."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.importers import google, hugging_face, hugging_face_dinov2, own, timm
from keras_cbpnet.models.importers.files import read_arrays
from keras_cbpnet.models.importers.fold import fold_layer_scale, fold_norms
from keras_cbpnet.models.importers.positions import POSITION, interpolate
from keras_cbpnet.models.importers.scheme import Scheme, convert, misfits, recognise

__all__ = ["import_arrays"]

FOREIGN = (timm.SCHEME, hugging_face.SCHEME, hugging_face_dinov2.SCHEME, google.SCHEME)
PART = re.compile(r"([^/]*)-\d+-of-(\d+)\.safetensors$")


def import_arrays(
    path: str | os.PathLike[str], config: BackboneConfig, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of the weights file `path` under the names of the backbone's variables.

    The file is recognised by what is in it, not by how it is called. A classifier is left out. The number of attention
    heads cannot be seen in most files: it is the configuration's. So is the activation.

    Args:
        path: a .npz or .safetensors file, or the list of several, with the names of `save_weights`, timm, Hugging Face
            or Google.
        config: of the backbone.
        shapes: of its variables, by name.

    Returns:
        float32, exactly the names and shapes of `shapes`.

    Raises:
        UserError: the file cannot be read, its names are none of the known ones, or it does not fit the backbone; the
            message names the first array that is missing, unexpected, of another shape or not finite.
    """
    arrays = read_arrays(path)
    schemes = (own.scheme(shapes), *FOREIGN)
    scheme = recognise(schemes, config, arrays)
    if scheme is None:
        known = ", ".join(scheme.title for scheme in schemes)
        some = ", ".join(sorted(arrays)[:3]) or "none"
        raise UserError(f"{path}: its names ({some}, ...) are not known; give a file with one of: {known}")
    if scheme in FOREIGN:
        _check_plain(path, scheme, config)
    if wrong := misfits(scheme, config, arrays):
        more = f" (and {len(wrong) - 1} more that do not fit)" if len(wrong) > 1 else ""
        remedy = _remedy(path, wrong)
        raise UserError(f"{path}, read as {scheme.title}, does not fit the backbone: {wrong[0]}{more}{remedy}")
    found = convert(scheme, config, arrays)
    found[POSITION] = interpolate(found[POSITION], shapes[POSITION][1])
    return fold_norms(fold_layer_scale(found, config.depth), config.depth) if scheme in FOREIGN else found


def _remedy(path: str | os.PathLike[str], wrong: list[str]) -> str:
    """Return what to do about misfits."""
    if (part := PART.search(os.fspath(path))) and int(part[2]) > 1:
        return f"; it is one of {int(part[2])} files: give the list of them, {part[1]}.safetensors.index.json"
    if all("not finite" in phrase for phrase in wrong):
        return "; fetch or convert the weights again"
    return "; give weights of a model of the preset's size, or another --preset"


def _check_plain(path: str | os.PathLike[str], scheme: Scheme, config: BackboneConfig) -> None:
    extra = [name for name, there in (("a stem", config.stem), ("whitening", config.whitening)) if there]
    if extra:
        raise UserError(
            f"{path}, read as {scheme.title}, is a plain Vision Transformer, and this backbone has "
            f"{' and '.join(extra)}; take a preset such as deit_tiny_16_224, or a file of save_weights"
        )
