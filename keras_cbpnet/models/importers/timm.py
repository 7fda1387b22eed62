"""Names of timm's `vision_transformer`, which DeiT's own files share: `blocks.0.attn.qkv.weight`.

All names may begin with `module.`, `model.` or `backbone.`, as training programs write them. Classifiers (`head`,
`head_dist`, `pre_logits`) and what masks images in training (`mask_token`) are ignored. Distilled models have a second
token and do not fit.
"""

from __future__ import annotations

import numpy as np

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.models.importers.pytorch import around, dense, layer_scale, norm
from keras_cbpnet.models.importers.scheme import Entry, Scheme, Table


def table(config: BackboneConfig) -> Table:
    """Return the arrays of a model of this size."""
    c, d = config, config.width
    entries = around(c, "cls_token", "pos_embed", "patch_embed.proj", "norm", registers="reg_token")
    for i in range(c.depth):
        theirs, ours = f"blocks.{i}", f"block_{i}"
        kernels, biases = (tuple(f"{ours}/{q}/{w}" for q in ("query", "key", "value")) for w in ("kernel", "bias"))
        entries |= {
            **norm(f"{theirs}.norm1", f"{ours}/norm1", d),
            f"{theirs}.attn.qkv.weight": Entry((3 * d, d), kernels, lambda w: np.split(w.T, 3, axis=1)),
            f"{theirs}.attn.qkv.bias": Entry((3 * d,), biases, lambda b: np.split(b, 3)),
            **dense(f"{theirs}.attn.proj", f"{ours}/output", d, d),
            **layer_scale(f"{theirs}.ls1.gamma", f"{ours}/scale1", d),
            **norm(f"{theirs}.norm2", f"{ours}/norm2", d),
            **dense(f"{theirs}.mlp.fc1", f"{ours}/expand", d, c.mlp_width),
            **dense(f"{theirs}.mlp.fc2", f"{ours}/contract", c.mlp_width, d),
            **layer_scale(f"{theirs}.ls2.gamma", f"{ours}/scale2", d),
        }
    return entries


SCHEME = Scheme(
    "timm's names",
    table,
    ignored=("head.", "head_dist.", "pre_logits.", "mask_token"),
    prefixes=("module.", "model.", "backbone."),
)
