"""A Vision Transformer as ONNX files, float32 and int8: `onnx_vit.py CONFIG.json FOLDER`; in the peers' environment.

The same operations as this project's backbone, in the form that ONNX Runtime has fused kernels for: LayerNormalization,
one product for queries, keys and values. Weights are drawn. int8 is ONNX Runtime's own static quantization of every
product and convolution, with scales from noise.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

# Dimensions: S image size, N tokens, D width, H heads, E width of a head, F hidden units of the MLP.
OPSET, IR = 17, 8
IMAGES = 8  # noise, that sets ranges


class Graph:
    """A graph that grows node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._rng = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; return the name of what it gives."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Return the name of a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def drawn(self, *shape: int) -> str:
        """Return the name of drawn weights, which keep the size of what goes through them."""
        deviation = 1 / np.sqrt(np.prod(shape[:-1]) if len(shape) == 2 else np.prod(shape[1:]))
        return self.constant(self._rng.normal(0, deviation, shape).astype(np.float32))

    def dense(self, x: str, given: int, units: int) -> str:
        """Return x W + b."""
        return self.add("Add", self.add("MatMul", x, self.drawn(given, units)), self.constant(np.zeros(units, "f4")))

    def norm(self, x: str, width: int) -> str:
        """Return a layer normalization."""
        scale, offset = self.constant(np.ones(width, "f4")), self.constant(np.zeros(width, "f4"))
        return self.add("LayerNormalization", x, scale, offset, axis=-1, epsilon=1e-6)

    def gated(self, x: str, factor: float = 1.0) -> str:
        """Return x * sigmoid(factor x)."""
        scaled = x if factor == 1 else self.add("Mul", x, self.constant(np.float32(factor)))
        return self.add("Mul", x, self.add("Sigmoid", scaled))

    def gelu(self, x: str) -> str:
        """Return the exact GELU."""
        erf = self.add("Erf", self.add("Div", x, self.constant(np.float32(np.sqrt(2)))))
        half = self.add("Mul", x, self.add("Add", erf, self.constant(np.float32(1))))
        return self.add("Mul", half, self.constant(np.float32(0.5)))


def vit(config: dict[str, Any]) -> onnx.ModelProto:
    """Return the network: `image` uint8 [1, S, S, 3] -> `feature` [1, D]."""
    g, S, D, H = Graph(), int(config["image_size"]), int(config["width"]), int(config["heads"])
    F, E = int(config["mlp_width"]), D // H
    x = g.add("Transpose", g.add("Cast", "image", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = g.add("Mul", x, g.constant(np.float32(1 / 255)))
    channels, side = 3, S
    for filters, stride in config["stem"]:
        x = g.add("Conv", x, g.drawn(filters, channels, 3, 3), strides=[stride] * 2, pads=[1, 1, 1, 1])
        x, channels, side = g.gated(x), filters, -(-side // stride)
    step, kernel = int(config["patch_size"]), 3 if config["stem"] else int(config["patch_size"])
    pads = [1, 1, 1, 1] if config["stem"] else [0, 0, 0, 0]
    x = g.add("Conv", x, g.drawn(D, channels, kernel, kernel), strides=[step] * 2, pads=pads)
    N = 1 + (side // step) ** 2
    x = g.add("Transpose", g.add("Reshape", x, g.constant([1, D, N - 1])), perm=[0, 2, 1])
    x = g.add("Concat", g.constant(np.zeros((1, 1, D), "f4")), x, axis=1)
    x = g.add("Add", x, g.constant(np.zeros((1, N, D), "f4")))
    for _ in range(int(config["depth"])):
        qkv = g.add("Reshape", g.dense(g.norm(x, D), D, 3 * D), g.constant([1, N, 3, H, E]))
        qkv = g.add("Transpose", qkv, perm=[2, 0, 3, 1, 4])  # (3, 1, H, N, E)
        q, k, v = (g.add("Gather", qkv, g.constant(np.int64(i)), axis=0) for i in range(3))
        scores = g.add("MatMul", q, g.add("Transpose", k, perm=[0, 1, 3, 2]))
        scores = g.add("Mul", scores, g.constant(np.float32(E**-0.5)))
        y = g.add("MatMul", g.add("Softmax", scores, axis=-1), v)  # (1, H, N, E)
        y = g.add("Reshape", g.add("Transpose", y, perm=[0, 2, 1, 3]), g.constant([1, N, D]))
        x = g.add("Add", x, g.dense(y, D, D))
        y = g.dense(g.norm(x, D), D, F)
        y = g.gelu(y) if config["activation"] == "gelu" else g.gated(y, 1.702)
        x = g.add("Add", x, g.dense(y, F, D))
    x = g.norm(g.add("Gather", x, g.constant(np.int64(0)), axis=1), D)
    g.nodes.append(helper.make_node("Identity", [x], ["feature"]))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, S, S, 3])
    feature = helper.make_tensor_value_info("feature", TensorProto.FLOAT, [1, D])
    graph = helper.make_graph(g.nodes, "vit", [image], [feature], g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    return model


class Noise(CalibrationDataReader):
    """Images that set the ranges."""

    def __init__(self, side: int) -> None:
        rng = np.random.default_rng(0)
        self._images: Iterator[Any] = iter(rng.integers(0, 256, (IMAGES, 1, side, side, 3), np.uint8))

    def get_next(self) -> Any:
        """Return the next one, or None."""
        image = next(self._images, None)
        return None if image is None else {"image": image}


def main() -> None:
    """Write both files."""
    source, folder = map(Path, sys.argv[1:])
    config = json.loads(source.read_text())
    plain, inferred = folder / f"{source.stem}.float32.onnx", folder / f"{source.stem}.inferred.onnx"
    onnx.save(vit(config), plain)
    quant_pre_process(str(plain), str(inferred), skip_symbolic_shape=True)
    quantize_static(
        str(inferred),
        str(folder / f"{source.stem}.int8.onnx"),
        Noise(int(config["image_size"])),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Conv"],
    )


if __name__ == "__main__":
    main()
