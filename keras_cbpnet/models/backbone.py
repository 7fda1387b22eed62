"""The Vision Transformer backbone."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.data.preprocessing import resize_images
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.encoder_block import EncoderBlock
from keras_cbpnet.layers.fake_quant import FakeQuantize, optional
from keras_cbpnet.layers.layer_norm import LayerNorm
from keras_cbpnet.layers.patch_embedding import PatchEmbedding
from keras_cbpnet.layers.projection import Projection
from keras_cbpnet.models.sizes import Transform, sizes, stored_whitening
from keras_cbpnet.models.weights import copy_weights, load_preset_weights
from keras_cbpnet.presets import check_weights, get_preset

# Dimensions: B images, H x W pixels, N tokens, D width.

PASS_TOKENS = 2400  # of all images of a forward pass: what a core's cache holds of them (benchmarks/NOTES.md, 36)


@keras.saving.register_keras_serializable("keras_cbpnet")
class Backbone(keras.Model):
    """Vision Transformer: normalised images to the feature of the class token.

        backbone = Backbone.from_preset("vit_nano_32")
        features = backbone(backbone.preprocess(images))  # uint8 [B, H, W, 3] of any size -> float32 [B, D]

    What runs on the device takes raw pixels, with the normalisation folded into its first convolution: that is
    `features(pixels)`, or `embed` and then `encode`, with prompts between.

    Args:
        config: sizes; a `BackboneConfig` or its dictionary.
        quantized: whether every weight and activation passes through an int8 fake quantizer.
        branched: whether the stem is trained in several branches, see `layers.orepa`; `merge` makes it a plain one.
    """

    def __init__(
        self,
        config: BackboneConfig | Mapping[str, Any] | None = None,
        quantized: bool = False,
        branched: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(config, BackboneConfig):
            config = BackboneConfig.from_dict(config or {})
        self.config = c = config
        self.quantized, self.branched = quantized, branched
        self.pixels = FakeQuantize(name="pixels") if quantized else keras.layers.Identity(name="pixels")
        self.embedding = PatchEmbedding(
            c.width, c.patch_size, c.stem, c.mean, c.deviation, c.registers, quantized, branched, name="embedding"
        )
        self.blocks = [
            EncoderBlock(c.width, c.heads, c.mlp_width, c.activation, quantized=quantized, name=f"block_{i}")
            for i in range(c.depth)
        ]
        self.norm = LayerNorm(affine=not c.whitening, quantized=quantized, name="norm")
        if c.whitening:
            self.whitening = Projection(c.width, kernel="identity", quantized=quantized, name="whitening")
            self.feature = optional(quantized, name="feature")

    def build(self, input_shape: Any = None) -> None:
        image = (None, self.config.image_size, self.config.image_size, 3)
        self.pixels.build(image)
        self.embedding.build(image)
        tokens = (None, self.embedding.tokens, self.config.width)
        for block in self.blocks:
            block.build(tokens)
        for layer in self.last_layers:
            layer.build((None, self.config.width))
        self.built = True

    @property
    def last_layers(self) -> list[keras.layers.Layer]:
        """What makes features of the class token after the blocks."""
        return [self.norm, self.whitening, self.feature] if self.config.whitening else [self.norm]

    @property
    def pass_images(self) -> int:
        """Images of a forward pass that is fast, where many images wait: few of many tokens."""
        return max(1, PASS_TOKENS // int(self.embedding.tokens))

    def set_whitening(self, matrix: NDArray[np.floating[Any]] | None = None, offset: Any = 0.0) -> None:
        """Make the last layer x @ matrix + offset, or the identity: plain features.

        Args:
            matrix: [D, D]; None for the identity.
            offset: [D], or one number.
        """
        width = self.config.width
        kernel = np.eye(width) if matrix is None else matrix
        self.whitening.kernel.assign(kernel.astype(np.float32))
        self.whitening.bias.assign(np.broadcast_to(offset, (width,)).astype(np.float32))

    def add_whitening(self, mean: NDArray[np.floating[Any]], matrix: NDArray[np.floating[Any]]) -> None:
        """Turn the features f into (f - mean) @ matrix; mean [D], matrix [D, D]."""
        kernel, bias = (np.asarray(x, np.float64) for x in (self.whitening.kernel, self.whitening.bias))
        self.set_whitening(kernel @ matrix, (bias - mean) @ matrix)

    def embed(self, images: Any, training: bool = False) -> Any:
        """Return the tokens, float32 [B, N, D], of raw RGB pixels 0..255 [B, H, W, 3]."""
        pixels = self.pixels(ops.cast(images, "float32"), training=training)
        return self.embedding(pixels, training=training)

    def encode(
        self,
        tokens: Any,
        prefixes: Mapping[int, tuple[Any, Any]] | None = None,
        training: bool = False,
        depth: int = 0,
    ) -> Any:
        """Return the features, float32 [B, D], of `tokens` [B, N, D].

        Args:
            tokens: what `embed` gives.
            prefixes: by block index, the rows [B, L, D] before that block's keys and values.
            training: whether the fake quantizers follow the ranges they see.
            depth: encoder blocks to run; 0: all. After fewer, the feature is the class token as the next block's first
                norm gives it.
        """
        x = self.class_token(tokens, prefixes, training, depth)
        early = depth % len(self.blocks)  # 0 blocks and all blocks are the same features
        return self.blocks[early].norm1(x, training=training) if early else self.last(x, training)

    def class_token(
        self,
        tokens: Any,
        prefixes: Mapping[int, tuple[Any, Any]] | None = None,
        training: bool = False,
        depth: int = 0,
    ) -> Any:
        """Return the class token after the blocks, before any norm, float32 [B, D]; arguments as `encode`."""
        x, blocks = tokens, self.blocks[: depth or None]
        for i, block in enumerate(blocks):
            last = i == len(blocks) - 1
            x = block(x, prefix=(prefixes or {}).get(i), class_only=last, training=training)
        return x[:, 0]

    def encode_extended(self, tokens: Any, extra: Any, training: bool = False) -> Any:
        """Return the features, float32 [B, D], that tokens put in front give on average after the last norm.

        Args:
            tokens: what `embed` gives.
            extra: float32 [B, L, D], put before them.
            training: as in `encode`.
        """
        x = ops.concatenate([extra, tokens], axis=1)  # (B, L + N, D)
        for block in self.blocks:
            x = block(x, training=training)
        x = self.norm(x[:, : extra.shape[1]], training=training)
        return self._white(ops.mean(x, axis=1), training)

    def last(self, x: Any, training: bool = False) -> Any:
        """Return the features, float32 [B, D], of the class token after the blocks, [B, D]: normalised and whitened."""
        return self._white(self.norm(x, training=training), training)

    def _white(self, x: Any, training: bool) -> Any:
        return self.feature(self.whitening(x), training=training) if self.config.whitening else x

    def features(self, images: Any, training: bool = False) -> Any:
        """Return the prompt-free features, float32 [B, D], of raw RGB pixels 0..255 [B, S, S, 3], S the image size."""
        return self.encode(self.embed(images, training=training), training=training)

    def call(self, images: Any, training: bool = False) -> Any:
        """Return the prompt-free features, float32 [B, D], of what `preprocess` gives, float32 [B, H, W, 3].

        Raises:
            UserError: `images` are integers, hence raw pixels.
        """
        if "int" in (dtype := keras.backend.standardize_dtype(images.dtype)):
            raise UserError(
                f"backbone(images) takes what backbone.preprocess(images) gives, got {dtype}; "
                "for raw pixels of the model's size there is backbone.features(images)"
            )
        mean, deviation = (255 * np.asarray(values, np.float32) for values in (self.config.mean, self.config.deviation))
        return self.features(images * deviation + mean, training=training)

    def preprocess(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the model's input: resized, then (pixel / 255 - mean) / deviation with the configuration's constants.

        Args:
            images: uint8 [N, H, W, 3], RGB, of any size; `image[None]` for a single one. The whole image is resized, to
                a square, by Pillow's bicubic filter; nothing is cut off.

        Returns:
            float32 [N, S, S, 3], S the model's image size.

        Raises:
            UserError: `images` have another type or shape.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
            raise UserError(
                f"images must be uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}; "
                "give RGB pixels 0..255, a single image as image[None]"
            )
        pixels = resize_images(images, self.config.image_size).astype(np.float32) / 255
        return (pixels - np.asarray(self.config.mean, np.float32)) / np.asarray(self.config.deviation, np.float32)

    @classmethod
    def from_preset(
        cls, name: str, weights: str | os.PathLike[str] | None = None, image_size: int | None = None, depth: int = 0
    ) -> Backbone:
        """Return the backbone of a preset with its weights.

        Args:
            name: of the preset; see `keras_cbpnet.presets`.
            weights: a .npz or .safetensors file with timm's, Hugging Face's, Google's or this project's names, the list
                of several such files, or `hf:OWNER/NAME[@REVISION][/FILE]` on the Hugging Face hub; None for the
                preset's, which are shipped with it or fetched from the hub, once.
            image_size: of the input, pixels, instead of the preset's; position embeddings are interpolated.
            depth: encoder blocks to use, the first ones; 0: all. Features after fewer are whitened by the transform
                that the weights have for them, or by none.

        Raises:
            UserError: no such preset, none of its weights, a file that cannot be fetched or does not fit, an image size
                that is not a multiple of the patches' step, or a depth that the backbone does not have.
        """
        preset = get_preset(name)
        check_weights(preset, weights)
        shallow, config = sizes(preset, weights, depth), sizes(preset, weights)
        if image_size is not None:
            step = config.patch_size * math.prod(stride for _, stride in config.stem)
            if image_size < step or image_size % step:
                raise UserError(f"image_size must be a multiple of {step} for preset {name}, got {image_size}")
            config = dataclasses.replace(config, image_size=image_size)
        backbone = cls(config, name=name)
        backbone.build()
        load_preset_weights(backbone, preset, weights)
        if shallow.depth == config.depth:
            return backbone
        return truncated(backbone, depth, stored_whitening(preset, weights, depth))

    def get_config(self) -> dict[str, Any]:
        own = {"config": self.config.to_dict(), "quantized": self.quantized, "branched": self.branched}
        return {**super().get_config(), **own}


def truncated(backbone: Backbone, depth: int, whitening: Transform | None = None) -> Backbone:
    """Return the first `depth` blocks of `backbone`, with its weights, as a backbone of their own.

    Args:
        backbone: built.
        depth: from 1 on.
        whitening: kernel [D, D] and bias [D] of its features; None: they are as the last norm gives them, without the
            scale and offset, or the whitening, that belong to the features after all blocks.
    """
    shallow = Backbone(dataclasses.replace(backbone.config, depth=depth), backbone.quantized, name=backbone.name)
    shallow.build()
    copy_weights(backbone, shallow)
    if shallow.config.whitening:
        shallow.set_whitening(*(whitening or ()))
    else:
        shallow.norm.scale.assign(np.ones(shallow.config.width, np.float32))
        shallow.norm.offset.assign(np.zeros(shallow.config.width, np.float32))
    return shallow
