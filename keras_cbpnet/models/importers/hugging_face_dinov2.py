"""Names of Hugging Face's DINOv2, with registers or without: `encoder.layer.0.layer_scale1.lambda1`.

All names may begin with `dinov2.`, `dinov2_with_registers.`, or without either. Classifiers and what masks images in
training (`mask_token`) are ignored.
"""

from __future__ import annotations

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.models.importers.pytorch import around, dense, layer_scale, norm
from keras_cbpnet.models.importers.scheme import Scheme, Table


def table(config: BackboneConfig) -> Table:
    """Return the arrays of a model of this size, without prefix."""
    c, d, start = config, config.width, "embeddings."
    names = (f"{start}cls_token", f"{start}position_embeddings", f"{start}patch_embeddings.projection", "layernorm")
    entries = around(c, *names, registers=f"{start}register_tokens")
    for i in range(c.depth):
        theirs, ours = f"encoder.layer.{i}", f"block_{i}"
        entries |= norm(f"{theirs}.norm1", f"{ours}/norm1", d)
        for name in ("query", "key", "value"):
            entries |= dense(f"{theirs}.attention.attention.{name}", f"{ours}/{name}", d, d)
        entries |= {
            **dense(f"{theirs}.attention.output.dense", f"{ours}/output", d, d),
            **layer_scale(f"{theirs}.layer_scale1.lambda1", f"{ours}/scale1", d),
            **norm(f"{theirs}.norm2", f"{ours}/norm2", d),
            **dense(f"{theirs}.mlp.fc1", f"{ours}/expand", d, c.mlp_width),
            **dense(f"{theirs}.mlp.fc2", f"{ours}/contract", c.mlp_width, d),
            **layer_scale(f"{theirs}.layer_scale2.lambda1", f"{ours}/scale2", d),
        }
    return entries


SCHEME = Scheme(
    "Hugging Face's DINOv2 names",
    table,
    ignored=("classifier.", "embeddings.mask_token"),
    prefixes=("dinov2.", "dinov2_with_registers."),
)
