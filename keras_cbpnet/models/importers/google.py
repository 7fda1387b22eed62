"""Names of Google's official ViT .npz files: `Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel`.

Kernels lie as [in, out] and those of attention keep an axis for the heads. All names may begin with `opt/target/`
or `params/`; an optimizer's state beside them (`opt/state/`) and classifiers (`head`, `pre_logits`) are ignored.
"""

from __future__ import annotations

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.models.importers.positions import POSITION
from keras_cbpnet.models.importers.scheme import Entry, Scheme, Table


def merged(shape: tuple[int, ...], name: str, result: tuple[int, ...]) -> Entry:
    """Return the entry of an array whose neighbouring axes, of heads and of their parts, become one."""
    return Entry(shape, (name,), lambda array: [array.reshape(result)])


def table(config: BackboneConfig) -> Table:
    """Return the arrays of a model of this size, without prefix."""
    c, d, f, h = config, config.width, config.mlp_width, config.heads
    n = (c.image_size // c.patch_size) ** 2 + 1
    entries = {
        "cls": Entry((1, 1, d), ("embedding/class_token",)),
        "Transformer/posembed_input/pos_embedding": Entry((1, n, d), (POSITION,)),
        "embedding/kernel": Entry((c.patch_size, c.patch_size, 3, d), ("embedding/convolution_0/kernel",)),
        "embedding/bias": Entry((d,), ("embedding/convolution_0/bias",)),
        "Transformer/encoder_norm/scale": Entry((d,), ("norm/scale",)),
        "Transformer/encoder_norm/bias": Entry((d,), ("norm/offset",)),
    }
    for i in range(c.depth):
        theirs, ours = f"Transformer/encoderblock_{i}", f"block_{i}"
        attention, mlp = f"{theirs}/MultiHeadDotProductAttention_1", f"{theirs}/MlpBlock_3"
        for number, norm in ((0, "norm1"), (2, "norm2")):
            entries[f"{theirs}/LayerNorm_{number}/scale"] = Entry((d,), (f"{ours}/{norm}/scale",))
            entries[f"{theirs}/LayerNorm_{number}/bias"] = Entry((d,), (f"{ours}/{norm}/offset",))
        for name in ("query", "key", "value"):
            entries[f"{attention}/{name}/kernel"] = merged((d, h, d // h), f"{ours}/{name}/kernel", (d, d))
            entries[f"{attention}/{name}/bias"] = merged((h, d // h), f"{ours}/{name}/bias", (d,))
        entries |= {
            f"{attention}/out/kernel": merged((h, d // h, d), f"{ours}/output/kernel", (d, d)),
            f"{attention}/out/bias": Entry((d,), (f"{ours}/output/bias",)),
            f"{mlp}/Dense_0/kernel": Entry((d, f), (f"{ours}/expand/kernel",)),
            f"{mlp}/Dense_0/bias": Entry((f,), (f"{ours}/expand/bias",)),
            f"{mlp}/Dense_1/kernel": Entry((f, d), (f"{ours}/contract/kernel",)),
            f"{mlp}/Dense_1/bias": Entry((d,), (f"{ours}/contract/bias",)),
        }
    return entries


SCHEME = Scheme("Google's ViT names", table, ignored=("head/", "pre_logits/"), prefixes=("opt/target/", "params/"))
