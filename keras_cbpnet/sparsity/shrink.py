"""Surgery: a smaller backbone with the weights of the members that are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.models.backbone import Backbone, truncated
from keras_cbpnet.models.weights import named_variables
from keras_cbpnet.sparsity.groups import mlp_units
from keras_cbpnet.sparsity.masks import kept
from keras_cbpnet.sparsity.request import Shrinking
from keras_cbpnet.sparsity.scores import SCORES

# Dimensions: F hidden units of an MLP, D width.


def shrink(
    backbone: Backbone,
    shrinking: Shrinking,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    rng: np.random.Generator,
) -> Backbone:
    """Return a smaller backbone: the first blocks of `backbone`, of their MLPs the hidden units that matter most.

    Its features are not white any more where blocks or units are missing.

    Args:
        backbone: built.
        shrinking: what is kept.
        images: of the pretraining data, uint8 [N, S, S, 3], by which units are judged.
        labels: [N].
        rng: of the score `random`.
    """
    config = backbone.config
    if 0 < shrinking.depth < config.depth:
        backbone = truncated(backbone, shrinking.depth)
    if shrinking.mlp == 1:
        return backbone
    members = mlp_units(backbone, images, labels)
    chosen = [kept(SCORES[shrinking.score](each, rng), shrinking.mlp) for each in members]
    smaller = Backbone(dataclasses.replace(backbone.config, mlp_width=len(chosen[0])), name=backbone.name)
    smaller.build()
    values: dict[str, Any] = {name: np.asarray(value) for name, value in named_variables(backbone).items()}
    narrow(values, chosen, [each.activation for each in members])
    for name, variable in named_variables(smaller).items():
        variable.assign(values[name])
    return smaller


def narrow(
    values: dict[str, Any], chosen: Sequence[NDArray[np.intp]], means: Sequence[NDArray[np.floating[Any]]]
) -> None:
    """Leave in the arrays of a backbone, by name, only the `chosen` hidden units of each block.

    What the others give on average goes into the output's bias, as when continual backpropagation resets a unit.

    Args:
        values: changed in place.
        chosen: of every block, indices [kept units].
        means: of every block, what each unit gives on average, [F].
    """
    for i, (index, mean) in enumerate(zip(chosen, means, strict=True)):
        expand, contract = f"block_{i}/expand", f"block_{i}/contract"
        gone = np.setdiff1d(np.arange(len(mean)), index)
        values[f"{contract}/bias"] = values[f"{contract}/bias"] + mean[gone] @ values[f"{contract}/kernel"][gone]
        values[f"{contract}/kernel"] = values[f"{contract}/kernel"][index]
        values[f"{expand}/kernel"] = values[f"{expand}/kernel"][:, index]
        values[f"{expand}/bias"] = values[f"{expand}/bias"][index]
