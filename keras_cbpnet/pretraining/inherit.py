"""A student that begins with its teacher's blocks, its MLPs narrowed to the hidden units that matter most."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_cbpnet.data.preprocessing import resize_images
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.importers.positions import POSITION, interpolate
from keras_cbpnet.models.weights import named_variables
from keras_cbpnet.pretraining.inputs import check_inheritance
from keras_cbpnet.sparsity.masks import kept
from keras_cbpnet.sparsity.shrink import narrow

# Dimensions: F hidden units of an MLP, D width.


def inherit(student: Backbone, teacher: Backbone, images: NDArray[np.uint8], batch: int = 24) -> None:
    """Give `student` the weights of `teacher`.

    Positions are interpolated to the student's grid. Of each MLP the hidden units are kept that give most, by the mean
    square of the activation times the squared length of the outgoing weights; what the others give on average goes
    into the output's bias, as when continual backpropagation resets a unit.

    Args:
        student: built; see `check_inheritance` for its sizes.
        teacher: with its weights.
        images: uint8 [N, H, W, 3] of any size, on which the hidden units are watched.
        batch: images of one forward pass.
    """
    check_inheritance(student.config, teacher.config)
    values: dict[str, Any] = {name: np.asarray(v) for name, v in named_variables(teacher).items()}
    wanted = named_variables(student)
    if "whitening/kernel" in wanted and "norm/scale" in values:
        values["whitening/kernel"] = np.diag(values["norm/scale"])
        values["whitening/bias"] = values["norm/offset"]
    values[POSITION] = interpolate(values[POSITION], wanted[POSITION].shape[1])
    pixels = resize_images(images, teacher.config.image_size)
    moments = [_moments(teacher, pixels[i : i + batch]) for i in range(0, len(pixels), batch)]
    means, squares = np.mean(moments, axis=0).transpose(1, 0, 2)  # (depth, F) each
    chosen = []
    for i, square in enumerate(squares):
        given = square * np.sum(np.square(values[f"block_{i}/contract/kernel"]), axis=1)
        chosen.append(kept(given, student.config.mlp_width / len(given)))
    narrow(values, chosen, means)
    for name, variable in wanted.items():
        variable.assign(values[name])


def _moments(teacher: Backbone, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean and the mean square of every hidden unit of every block, [depth, 2, F]."""
    found, x = [], teacher.embed(images)
    for block in teacher.blocks:
        middle = block.attention(x)
        hidden = block.hidden(middle)
        given = hidden * block.contract.input_gain
        found.append([ops.convert_to_numpy(ops.mean(y, axis=(0, 1))) for y in (given, ops.square(given))])
        x = middle + block.contract(hidden)
    return np.array(found, np.float64)
