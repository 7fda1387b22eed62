"""A Vision Transformer in NumPy, float64, written from the equations: what the Keras layers are compared with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Dimensions: B images, N tokens, L prefix rows, M = L + N, H heads, D width, F hidden units of the MLP.

Array = np.ndarray


def arrays(variables: Mapping[str, object]) -> dict[str, Array]:
    """Variables by path as float64 arrays."""
    return {name: np.asarray(value, np.float64) for name, value in variables.items()}


def below(weights: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}


def layer_norm(x: Array, epsilon: float = 1e-6) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def dense(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def attention(q: Array, k: Array, v: Array, heads: int) -> Array:
    """Image by image and head by head: softmax(q k' / sqrt(D/H)) v."""
    B, N, D = q.shape
    size, result = D // heads, np.empty((B, N, D))
    for b in range(B):
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            scores = q[b, :, part] @ k[b, :, part].T / np.sqrt(size)  # (N, M)
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            result[b, :, part] = powers / powers.sum(axis=1, keepdims=True) @ v[b, :, part]
    return result


def encoder_block(
    weights: Mapping[str, Array], x: Array, heads: int, prefix: tuple[Array, Array] | None = None
) -> Array:
    """x + attention(norm(x)), then x + mlp(norm(x)); the prefix before the keys and before the values."""
    y = layer_norm(x)
    q, k, v = (dense(weights, name, y) for name in ("query", "key", "value"))
    if prefix is not None:
        k = np.concatenate([prefix[0], k], axis=1)  # (B, M, D)
        v = np.concatenate([prefix[1], v], axis=1)  # (B, M, D)
    x = x + dense(weights, "output", attention(q, k, v, heads))
    y = dense(weights, "expand", layer_norm(x))  # (B, N, F)
    return x + dense(weights, "contract", y * sigmoid(1.702 * y))


def convolution(x: Array, kernel: Array, bias: Array, stride: int, fill: Array) -> Array:
    """Strided convolution with `same` padding; the border is made of `fill`, one value a channel."""
    size = kernel.shape[0]
    rows, columns = (-(-n // stride) for n in x.shape[1:3])
    pads = [max((out - 1) * stride + size - n, 0) for out, n in zip((rows, columns), x.shape[1:3])]
    padded = np.empty((x.shape[0], x.shape[1] + pads[0], x.shape[2] + pads[1], x.shape[3]))
    padded[:] = fill
    padded[:, pads[0] // 2 : pads[0] // 2 + x.shape[1], pads[1] // 2 : pads[1] // 2 + x.shape[2]] = x
    result = np.empty((x.shape[0], rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
            result[:, i, j] = np.tensordot(window, kernel, axes=3) + bias
    return result


def patch_embedding(
    weights: Mapping[str, Array], x: Array, stem: tuple, patch_size: int, mean: Array, deviation: Array
) -> Array:
    """Normalised pixels through the stem's silu convolutions and the embedding, row by row; class token, positions."""
    mean, deviation = 255 * np.asarray(mean), 255 * np.asarray(deviation)
    x, fill = (x - mean) / deviation, -mean / deviation  # a black border
    strides = [stride for _, stride in stem] + [patch_size]
    for i, stride in enumerate(strides):
        kernel, bias = (weights[f"convolution_{i}/{name}"] for name in ("kernel", "bias"))
        x = convolution(x, kernel, bias, stride, fill)
        if i < len(stem):
            x = x * sigmoid(x)
        fill = np.zeros(x.shape[-1])
    tokens = x.reshape(len(x), -1, x.shape[-1])
    first = np.broadcast_to(weights["class_token"], (len(x), 1, x.shape[-1]))
    return np.concatenate([first, tokens], axis=1) + weights["position"]
