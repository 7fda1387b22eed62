"""The frozen prompted backbone as one TFLite graph: query pass, nearest key, prompted pass; or that pass alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from keras_cbpnet.export.converter import convert_inference, without_variables
from keras_cbpnet.export.recipes import RECIPES
from keras_cbpnet.export.tflite_file.fine_softmax import refine
from keras_cbpnet.export.tflite_file.islands import float_islands
from keras_cbpnet.layers.fixed_prompt import FixedPrompt
from keras_cbpnet.layers.interfaces import query_blocks
from keras_cbpnet.layers.islands import islands_in_float
from keras_cbpnet.layers.layer_norm import plain_sums
from keras_cbpnet.layers.no_prompts import NoPrompts
from keras_cbpnet.layers.prompts import Prompts, assemble, unit
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class PromptedBackbone(tf.Module):
    """The graph of `serving_default`: `image` [1, H, W, 3] -> `feature` [1, d], `prompt` int32 [1]."""

    def __init__(self, backbone: Backbone, prompts: Prompts) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = prompts.config
        self.query_blocks = cast("int", query_blocks(prompts, backbone.config.depth))  # such prompts have a query
        used = prompts.tasks
        self.general = tf.Variable(prompts.general, trainable=False)
        self.expert = tf.Variable(prompts.expert[:used], trainable=False)
        keys = unit(prompts.key[:used])
        # What all keys share moves no maximum, but would take int8's few steps from their differences.
        keys = keys - ops.mean(keys, axis=0, keepdims=True)
        self.keys = tf.Variable(ops.transpose(keys), trainable=False)  # (d, P)

    def __call__(self, image: Any) -> dict[str, Any]:
        tokens = self.backbone.embed(image)
        query = self.backbone.encode(tokens, depth=self.query_blocks)
        # The length of the query does not move the maximum, so the nearest key by cosine needs no division.
        prompt = tf.argmax(tf.matmul(query, self.keys), axis=1, output_type=tf.int32)
        expert = tf.gather(self.expert, prompt)  # (1, 2 E, L, D)
        feature = self.backbone.encode(tokens, assemble(self.config, self.general, expert))
        return {"feature": feature, "prompt": prompt}


class OnePassBackbone(tf.Module):
    """The same in one pass, prompt 0 for every image: a fixed prompt, the only one in use, or no prompts."""

    def __init__(self, backbone: Backbone, prompts: Prompts | FixedPrompt | NoPrompts) -> None:
        super().__init__()
        self.backbone = backbone
        self.prefixes = {}
        if not isinstance(prompts, NoPrompts):
            found = assemble(prompts.config, prompts.general, prompts.expert[:1])
            self.prefixes = {i: tuple(tf.Variable(x, trainable=False) for x in pair) for i, pair in found.items()}

    def __call__(self, image: Any) -> dict[str, Any]:
        feature = self.backbone.encode(self.backbone.embed(image), self.prefixes)
        return {"feature": feature, "prompt": tf.argmax(feature[:, :1], axis=1, output_type=tf.int32)}


def convert_backbone(model: PromptedClassifier, recipe: str, images: NDArray[np.uint8], prompts: Any = None) -> bytes:
    """Return the backbone of `model` with its prompts, or with `prompts`, as a TFLite file; see `convert`."""
    prompts = model.prompts if prompts is None else prompts
    chooses = isinstance(prompts, Prompts) and prompts.tasks > 1
    graph = PromptedBackbone(model.backbone, prompts) if chooses else OnePassBackbone(model.backbone, prompts)
    with computed_by(recipe, model.backbone):
        return convert(graph, model.backbone.config.image_size, recipe, images)


def computed_by(recipe: str, backbone: Backbone) -> contextlib.AbstractContextManager[None]:
    """Return a context in which `backbone` has the operators that a file of `recipe` has."""
    if RECIPES[recipe].integer:
        return contextlib.nullcontext()
    return islands_in_float(backbone) if RECIPES[recipe].islands else plain_sums(backbone)


def convert(module: tf.Module, image_size: int, recipe: str, images: NDArray[np.uint8]) -> bytes:
    """Return a graph from one image to a dictionary of outputs as a TFLite file.

    Args:
        module: called with raw pixels [1, S, S, 3]; its fake quantizers, where it has them, set the ranges where
            activations are quantized.
        image_size: S.
        recipe: a name in `RECIPES`.
        images: representative uint8 images [N, S, S, 3], which set the ranges that no fake quantizer holds.
    """
    flags = RECIPES[recipe]
    # The converter turns the float input into uint8 itself.
    kind = tf.float32 if flags.quantized_activations else tf.uint8
    signature = tf.TensorSpec([1, image_size, image_size, 3], kind, name="image")
    # Ranges of fake quantizers count only as constants, so every variable is frozen before the converter looks.
    graph = tf.function(module.__call__, autograph=False).get_concrete_function(signature)
    outputs = sorted(graph.structured_outputs)  # the order in which a dictionary is flattened
    frozen = without_variables(graph)

    @tf.function(input_signature=[signature], autograph=False)
    def serve(image: Any) -> dict[str, Any]:
        return dict(zip(outputs, frozen(image), strict=True))

    if not flags.quantized_activations:
        return convert_inference(serve, flags.quantized_weights, None)
    content = convert_inference(serve, flags.quantized_weights, lambda: _representative(images))
    return float_islands(content) if flags.islands else refine(content)


def _representative(images: Iterable[NDArray[np.uint8]]) -> Iterator[dict[str, NDArray[np.float32]]]:
    for image in images:
        pixels = image[None].astype(np.float32)
        # Darkest and brightest pixel in every image, so that the input's scale is 1 and its zero point 0.
        pixels[0, 0, 0], pixels[0, 0, 1] = 0.0, 255.0
        yield {"image": pixels}
