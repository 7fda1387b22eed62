"""The model of every method: a frozen prompted ViT and a head that learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_cbpnet.config import BackboneConfig, HeadConfig, PromptConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers import interfaces
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.fake_quant import get_mode, set_mode
from keras_cbpnet.layers.prompts import Prompts
from keras_cbpnet.layers.shared_batch import joined, mean_share, part, total
from keras_cbpnet.models.backbone import Backbone

# Dimensions: B images, H x W pixels, N tokens, D feature size, C class slots.

TRACED_FROM = 12  # passes of one function, from which tracing it pays: it takes as long as five of them


@keras.saving.register_keras_serializable("keras_cbpnet", name="CBPNet")  # its first name, so that saved runs load
class PromptedClassifier(keras.Model):
    """Raw RGB images to logits over the classes seen so far, each image on its own (arXiv 2509.15785).

    An ordinary Keras model: `compile` takes the prompts' optimizer, `fit` trains prompts (by that optimizer) and head
    (by its own step) on the current task's classes, `evaluate` and `predict` select prompts image by image. Around
    them: `begin_task` before each task and `observe` to take the class means.

    With `Prompts` and `CBPHead` it is CBPNet; the methods it is compared with have other prompts or another head.

    Args:
        backbone: sizes of the Vision Transformer.
        prompts: lengths, blocks and pool of DualPrompt's prompts; or a layer that is `interfaces.Prompts`.
        head: block, sizes and rates of a `CBPHead`; or a layer that is `interfaces.Head`.
        quantized: whether the backbone carries int8 fake quantizers.
        quantization_mode: of these: `off`, or `on` once calibrated.
        key_weight: lambda of the loss, cross-entropy - lambda * cos(query, key).
    """

    def __init__(
        self,
        backbone: BackboneConfig | Mapping[str, Any] | None = None,
        prompts: PromptConfig | keras.layers.Layer | Mapping[str, Any] | None = None,
        head: HeadConfig | keras.layers.Layer | Mapping[str, Any] | None = None,
        quantized: bool = False,
        quantization_mode: str = "off",
        key_weight: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quantized = quantized
        self.key_weight = key_weight
        self.backbone = Backbone(backbone, quantized=quantized, name="backbone")
        self.backbone.trainable = False
        set_mode(self.backbone, quantization_mode)
        width, depth = self.backbone.config.width, self.backbone.config.depth
        self.prompts: interfaces.Prompts = _layer(prompts) or Prompts(prompts, width, name="prompts")
        if missing := [i for i in self.prompts.blocks if i >= depth]:
            raise UserError(f"prompts for blocks {missing}, but the backbone has only {depth}")
        self.query_blocks = interfaces.query_blocks(self.prompts, depth)
        self.head: interfaces.Head = _layer(head) or CBPHead(head, own_step=True, name="head")
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy_tracker = keras.metrics.Mean(name="accuracy")
        self.replaced_tracker = keras.metrics.Sum(name="replaced")
        self.learn_step = tf.function(self.learn_features, autograph=False)
        self.optimizer: Any = None  # until `compile`; Keras' TensorBoard asks for it where only the head is trained

    def build(self, input_shape: Any = None) -> None:
        width, slots = self.backbone.config.width, self.head.slots
        self.backbone.build()
        self.prompts.build((None, width))
        self.head.build((None, width))
        self.loss_mask = self.add_weight(name="loss_mask", shape=(slots,), initializer="zeros", trainable=False)
        self.built = True

    # Inference ---------------------------------------------------------------------------------------------------

    def query(self, images: Any) -> Any:
        """Return what selects the prompts, float32 [B, D], of raw RGB `images` [B, H, W, 3]; None if nothing does.

        That is the prompt-free features, or the class token after the first `query_blocks` blocks.
        """
        return self._query(self.backbone.embed(images))

    def _query(self, tokens: Any, training: bool = False) -> Any:
        blocks = self.query_blocks
        return None if blocks is None else self.backbone.encode(tokens, training=training, depth=blocks)

    def features(self, images: Any, prompt: int | None = None, query: Any = None) -> tuple[Any, Any]:
        """Return the prompted features, float32 [B, D], and the prompt of each image, int32 [B].

        Args:
            images: raw RGB [B, H, W, 3]; may be None where the prompts read no tokens and there is a `query`.
            prompt: the expert prompt to use for all, or None for the one that each image selects.
            query: what `query` gives for the images, [B, D], where it is known.
        """
        tokens = None if images is None else self.backbone.embed(images)
        query = self._query(tokens) if query is None else query
        return self.prompts.encode(self.backbone, tokens, query, prompt)[:2]

    def call(self, images: Any) -> Any:
        """Return the logits, float32 [B, C], of raw RGB `images` [B, H, W, 3]; -1e9 for classes not seen yet."""
        return self.head(self.features(images)[0])

    # Learning ----------------------------------------------------------------------------------------------------

    def begin_task(
        self,
        query: np.ndarray | None,
        slots: Sequence[int],
        compete: Sequence[int] | None = None,
        new_prompt: bool = True,
    ) -> None:
        """Take a new expert prompt and open the slots of the task's classes.

        Args:
            query: what `query` gives for the task's training images, float32 [N, D].
            slots: the task's class slots.
            compete: the slots that compete in the training loss; default: those of the task.
            new_prompt: whether the task gets a new expert prompt.
        """
        if new_prompt:
            self.prompts.begin_task(query)
        self.head.begin_task()
        self.head.open(slots)
        loss_mask = np.zeros(self.loss_mask.shape, np.float32)
        loss_mask[list(slots if compete is None else compete)] = 1.0
        self.loss_mask.assign(loss_mask)

    def batched(self, function: Any, images: Any, batch: int | None = None) -> np.ndarray:
        """Return `function` of `images` as one array, computed `batch` images at a time; None: as many as are fast."""
        batch = batch or self.backbone.pass_images
        if len(images):
            function = traced(function, -(-len(images) // batch), images[:1])
        parts = [ops.convert_to_numpy(function(images[i : i + batch])) for i in range(0, len(images), batch)]
        return np.concatenate(parts)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Do one step on (images [B, H, W, 3], labels int32 [B]).

        `images` may be a dictionary: `images`; `query` [B, D], where it is known; `replay_feature` [R, D] and
        `replay_label` [R], for the head alone.
        """
        x, label, _ = keras.utils.unpack_x_y_sample_weight(data)
        x = x if isinstance(x, dict) else {"images": x}
        label = ops.cast(label, "int32")
        with tf.GradientTape() as tape:
            tokens = self.backbone.embed(part(x["images"]), training=True)
            with tape.stop_recording():
                query = part(x["query"]) if "query" in x else self._query(tokens, training=True)
            feature, _, match = self.prompts.encode(self.backbone, tokens, query, self.prompts.newest, training=True)

            rows, rows_label = joined(tf.stop_gradient(feature)), label
            if "replay_feature" in x:
                rows = ops.concatenate([rows, x["replay_feature"]], axis=0)
                rows_label = ops.concatenate([rows_label, ops.cast(x["replay_label"], "int32")], axis=0)
            result = self.learn_features(rows, rows_label)
            slope = part(tf.stop_gradient(result["feature_gradient"][: ops.shape(label)[0]]))
            # Its gradient by the prompts is that of the head's loss: the chain rule through the feature.
            surrogate = ops.sum(feature * slope) - self.key_weight * mean_share() * ops.mean(match)
        variables = self.trainable_variables
        self.optimizer.apply(total(tape.gradient(surrogate, [v.value for v in variables])), variables)
        return self._track(result["loss"], result["accuracy"], ops.cast(result["replaced"] >= 0, "float32"))

    def learn_features(self, feature: Any, label: Any) -> dict[str, Any]:
        """Train the head alone on `feature` [B, D] and `label` int32 [B]; result as `equations.Head.train`."""
        return self.head.learn(feature, label, ops.convert_to_tensor(self.loss_mask))

    def test_step(self, data: Any) -> dict[str, Any]:
        """Return loss (cross-entropy over the classes seen) and accuracy of (images [B, H, W, 3], labels int32 [B])."""
        images, label, _ = keras.utils.unpack_x_y_sample_weight(data)
        logits = self(images, training=False)
        loss = keras.losses.sparse_categorical_crossentropy(label, logits, from_logits=True)
        hits = ops.cast(ops.equal(ops.argmax(logits, axis=1), ops.cast(label, "int32")), "float32")
        return self._track(ops.mean(loss), ops.mean(hits), ops.zeros(()), rows=ops.shape(label)[0])

    def _track(self, loss: Any, accuracy: Any, replaced: Any, rows: Any = 1) -> dict[str, Any]:
        self.loss_tracker.update_state(loss, sample_weight=rows)
        self.accuracy_tracker.update_state(accuracy, sample_weight=rows)
        self.replaced_tracker.update_state(replaced)
        return {tracker.name: tracker.result() for tracker in self.metrics}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Loss, accuracy and resets: the model has its own, so `compile` needs neither loss nor metrics."""
        return [self.loss_tracker, self.accuracy_tracker, self.replaced_tracker]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "backbone": self.backbone.config.to_dict(),
            "prompts": _described(self.prompts),
            "head": _described(self.head),
            "quantized": self.quantized,
            "quantization_mode": get_mode(self),
            "key_weight": self.key_weight,
        }


def traced(function: Any, passes: int, example: Any) -> Any:
    """Return `function` of one array as a graph where it is called that many times, else as it is.

    A graph of a network with fake quantizers takes a quarter of the time of its operations one by one; the numbers are
    the same up to the order of sums.

    Args:
        function: of rows, any number of them.
        passes: how often it will be called.
        example: one row or more of what it will be called with.
    """
    if passes < TRACED_FROM:
        return function
    rows = tf.TensorSpec((None, *example.shape[1:]), example.dtype)
    return tf.function(function, (rows,), autograph=False)


def _described(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return the serialised `layer`, not built: the model builds it."""
    return {key: v for key, v in keras.saving.serialize_keras_object(layer).items() if key != "build_config"}


def _layer(given: Any) -> keras.layers.Layer | None:
    """Return `given` if it is a layer, the layer that it describes if it is a serialised one, otherwise None."""
    if isinstance(given, Mapping) and "class_name" in given:
        return keras.saving.deserialize_keras_object(given)
    return given if isinstance(given, keras.layers.Layer) else None
