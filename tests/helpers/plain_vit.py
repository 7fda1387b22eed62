"""A plain ViT on arrays under timm's names, in NumPy: forward pass, random checkpoints, the names of other projects.

Written from the papers and from the formats' own code; nothing here uses the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.special import erf

# Dimensions: B images, N tokens, H heads, D width, F hidden units of the MLP, P patch size, G patches a side.

Array = np.ndarray
QKV = ("query", "key", "value")


def random_checkpoint(size: int, patch: int, D: int, depth: int, F: int, seed: int = 0) -> dict[str, Array]:
    """float32 arrays as timm names and shapes them, with a classifier; no norm is trivial, no bias 0."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return rng.normal(0, 0.5 / np.sqrt(shape[-1]), shape).astype(np.float32)

    w = {
        "cls_token": normal(1, 1, D),
        "pos_embed": normal(1, (size // patch) ** 2 + 1, D),
        "patch_embed.proj.weight": normal(D, 3, patch, patch),
        "patch_embed.proj.bias": normal(D),
        "norm.weight": 1 + normal(D),
        "norm.bias": normal(D),
        "head.weight": normal(7, D),
        "head.bias": normal(7),
    }
    for i in range(depth):
        for norm in ("norm1", "norm2"):
            w[f"blocks.{i}.{norm}.weight"], w[f"blocks.{i}.{norm}.bias"] = 1 + 2 * normal(D), 2 * normal(D)
        layers = {"attn.qkv": (3 * D, D), "attn.proj": (D, D), "mlp.fc1": (F, D), "mlp.fc2": (D, F)}
        for name, (outputs, inputs) in layers.items():
            w[f"blocks.{i}.{name}.weight"], w[f"blocks.{i}.{name}.bias"] = 3 * normal(outputs, inputs), normal(outputs)
    return w


def with_layer_scale(w: Mapping[str, Array], registers: int = 0, seed: int = 1) -> dict[str, Array]:
    """The same checkpoint as timm has DINOv2 and DeiT-III: layer scale, perhaps registers, no position of the class."""
    rng = np.random.default_rng(seed)
    D = w["cls_token"].shape[-1]
    changed = {**w, "cls_token": w["cls_token"] + w["pos_embed"][:, :1], "pos_embed": w["pos_embed"][:, 1:]}
    if registers:
        changed["reg_token"] = rng.normal(0, 0.5, (1, registers, D)).astype(np.float32)
    for name in [name for name in w if name.endswith("norm1.weight")]:
        for scale in ("ls1", "ls2"):
            changed[name.replace("norm1.weight", f"{scale}.gamma")] = rng.uniform(-1, 2, D).astype(np.float32)
    return changed


def write(path: Path, arrays: Mapping[str, Array]) -> Path:
    """Write `arrays` to `path`, .npz or .safetensors; return it."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file(arrays, path)
    return path


def normalised(images: Array, mean: Sequence[float], deviation: Sequence[float]) -> Array:
    """The input of `forward` from raw pixels [B, H, W, 3]."""
    return (images / 255 - np.array(mean)) / np.array(deviation)


def forward(w: Mapping[str, Array], images: Array, heads: int, dtype: type = np.float64) -> Array:
    """The class token's feature [B, D] of normalised images [B, H, W, 3]."""
    w = {name: array.astype(dtype) for name, array in w.items()}
    D, P = w["patch_embed.proj.weight"].shape[0], w["patch_embed.proj.weight"].shape[2]
    B, G = len(images), images.shape[1] // P
    patches = images.astype(dtype).reshape(B, G, P, G, P, 3).transpose(0, 1, 3, 5, 2, 4)  # (B, G, G, 3, P, P)
    kernel = w["patch_embed.proj.weight"].reshape(D, 3 * P * P)
    x = patches.reshape(B, G * G, 3 * P * P) @ kernel.T + w["patch_embed.proj.bias"]
    if w["pos_embed"].shape[1] == G * G:  # none for the class token
        w["pos_embed"] = np.concatenate([np.zeros((1, 1, D)), w["pos_embed"]], axis=1)
    x = np.concatenate([np.repeat(w["cls_token"], B, axis=0), x], axis=1) + w["pos_embed"]  # (B, N, D)
    if "reg_token" in w:
        x = np.concatenate([x[:, :1], np.repeat(w["reg_token"], B, axis=0), x[:, 1:]], axis=1)

    def norm(name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        return centred / np.sqrt(variance + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(name: str, x: Array) -> Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def split(x: Array) -> Array:
        return x.reshape(B, -1, heads, D // heads).transpose(0, 2, 1, 3)  # (B, H, N, D/H)

    depth = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks."))
    for block in (f"blocks.{i}" for i in range(depth)):
        q, k, v = (split(part) for part in np.split(dense(f"{block}.attn.qkv", norm(f"{block}.norm1", x)), 3, axis=-1))
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(D // heads)  # (B, H, N, N)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        attended = powers / powers.sum(-1, keepdims=True) @ v
        attended = dense(f"{block}.attn.proj", attended.transpose(0, 2, 1, 3).reshape(B, -1, D))
        x = x + w.get(f"{block}.ls1.gamma", 1) * attended
        y = dense(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))
        y = dense(f"{block}.mlp.fc2", 0.5 * y * (1 + erf(y / np.sqrt(2))).astype(dtype))  # the exact GELU
        x = x + w.get(f"{block}.ls2.gamma", 1) * y
    return norm("norm", x[:, 0])


def hugging_face_names(w: Mapping[str, Array], prefix: str = "vit.") -> dict[str, Array]:
    """The same checkpoint as Hugging Face's ViTForImageClassification has it."""
    renamed = {}
    whole = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    inside = {
        "norm1": "layernorm_before",
        "attn.proj": "attention.output.dense",
        "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    for name, array in w.items():
        layer, _, kind = name.rpartition(".") if "." in name else (name, "", "")
        if layer == "head":
            renamed[f"classifier.{kind}"] = array
        elif layer in whole:
            renamed[prefix + whole[layer] + (f".{kind}" if kind else "")] = array
        else:
            _, number, layer = layer.split(".", 2)
            start = f"{prefix}encoder.layer.{number}."
            if layer == "attn.qkv":
                for part, values in zip(QKV, np.split(array, 3)):
                    renamed[f"{start}attention.attention.{part}.{kind}"] = values
            else:
                renamed[f"{start}{inside[layer]}.{kind}"] = array
    return renamed


def hugging_face_dinov2_names(w: Mapping[str, Array], prefix: str = "") -> dict[str, Array]:
    """A checkpoint with layer scale as Hugging Face's Dinov2Model has it: positions with a row for the class token."""
    plain = {name: array for name, array in w.items() if name != "reg_token" and not name.endswith(".gamma")}
    renamed = {}
    inside = {"layernorm_before": "norm1", "layernorm_after": "norm2", "intermediate.dense": "mlp.fc1"}
    for name, array in hugging_face_names(plain, prefix).items():
        start, layer, rest = name.partition("encoder.layer.")
        if layer:
            number, _, rest = rest.partition(".")
            rest = "mlp.fc2" + rest[len("output.dense") :] if rest.startswith("output.dense") else rest
            for old, new in inside.items():
                rest = rest.replace(old, new)
            name = f"{start}{layer}{number}.{rest}"
        renamed[name] = array
    position = f"{prefix}embeddings.position_embeddings"
    renamed[position] = np.pad(renamed[position], ((0, 0), (1, 0), (0, 0)))
    renamed[f"{prefix}embeddings.mask_token"] = np.zeros((1, w["cls_token"].shape[-1]), np.float32)
    if "reg_token" in w:
        renamed[f"{prefix}embeddings.register_tokens"] = w["reg_token"]
    for name, array in w.items():
        if name.endswith(".gamma"):
            _, number, scale, _ = name.split(".")
            renamed[f"{prefix}encoder.layer.{number}.layer_scale{scale[-1]}.lambda1"] = array
    return renamed


def google_names(w: Mapping[str, Array], heads: int, prefix: str = "") -> dict[str, Array]:
    """The same checkpoint as Google's .npz files have it: kernels [in, out], heads on an axis of their own."""
    D = w["cls_token"].shape[-1]
    renamed = {
        "cls": w["cls_token"],
        "Transformer/posembed_input/pos_embedding": w["pos_embed"],
        "embedding/kernel": np.einsum("oihw->hwio", w["patch_embed.proj.weight"]),
        "embedding/bias": w["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": w["norm.weight"],
        "Transformer/encoder_norm/bias": w["norm.bias"],
        "head/kernel": w["head.weight"].T,
        "head/bias": w["head.bias"],
    }
    for i in range(sum(name.endswith("qkv.bias") for name in w)):
        theirs, ours = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        for part, weight, bias in zip(QKV, *(np.split(w[f"{ours}.attn.qkv.{kind}"], 3) for kind in ("weight", "bias"))):
            name = f"{theirs}/MultiHeadDotProductAttention_1/{part}"
            renamed[f"{name}/kernel"] = weight.reshape(heads, D // heads, D).transpose(2, 0, 1)
            renamed[f"{name}/bias"] = bias.reshape(heads, D // heads)
        name = f"{theirs}/MultiHeadDotProductAttention_1/out"
        renamed[f"{name}/kernel"] = w[f"{ours}.attn.proj.weight"].reshape(D, heads, D // heads).transpose(1, 2, 0)
        renamed[f"{name}/bias"] = w[f"{ours}.attn.proj.bias"]
        for number, norm in ((0, "norm1"), (2, "norm2")):
            renamed[f"{theirs}/LayerNorm_{number}/scale"] = w[f"{ours}.{norm}.weight"]
            renamed[f"{theirs}/LayerNorm_{number}/bias"] = w[f"{ours}.{norm}.bias"]
        for number, layer in ((0, "fc1"), (1, "fc2")):
            renamed[f"{theirs}/MlpBlock_3/Dense_{number}/kernel"] = w[f"{ours}.mlp.{layer}.weight"].T
            renamed[f"{theirs}/MlpBlock_3/Dense_{number}/bias"] = w[f"{ours}.mlp.{layer}.bias"]
    return {prefix + name: array for name, array in renamed.items()}
