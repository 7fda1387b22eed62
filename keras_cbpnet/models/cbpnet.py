"""CBPNet: a frozen prompted ViT under a head that learns by continual backpropagation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_cbpnet.config import BackboneConfig, HeadConfig, PromptConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.fake_quant import get_mode, set_mode
from keras_cbpnet.layers.prompts import Prompts
from keras_cbpnet.models.backbone import Backbone

# Dimensions: B images, H x W pixels, N tokens, D feature size, C class slots.


@keras.saving.register_keras_serializable("keras_cbpnet")
class CBPNet(keras.Model):
    """Raw RGB images to logits over the classes seen so far, each image on its own (arXiv 2509.15785).

    An ordinary Keras model: `compile` takes the prompts' optimizer, `fit` trains prompts (by that optimizer) and head
    (by its own step) on the current task's classes, `evaluate` and `predict` select prompts image by image. Around
    them: `begin_task` before each task and `observe` to take the class means.

    Args:
        backbone: sizes of the Vision Transformer.
        prompts: lengths, blocks and pool of the prompts.
        head: block, sizes and rates of the head.
        quantized: whether the backbone carries int8 fake quantizers.
        quantization_mode: of these: `off`, or `on` once calibrated.
        key_weight: lambda of the loss, cross-entropy - lambda * cos(query, key).
    """

    def __init__(
        self,
        backbone: BackboneConfig | Mapping[str, Any] | None = None,
        prompts: PromptConfig | Mapping[str, Any] | None = None,
        head: HeadConfig | Mapping[str, Any] | None = None,
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
        self.prompts = Prompts(prompts, self.backbone.config.width, name="prompts")
        depth = self.backbone.config.depth
        if missing := [i for i in (*self.prompts.config.g_blocks, *self.prompts.config.e_blocks) if i >= depth]:
            raise UserError(f"prompts for blocks {missing}, but the backbone has only {depth}")
        self.head = CBPHead(head, name="head")
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy_tracker = keras.metrics.Mean(name="accuracy")
        self.replaced_tracker = keras.metrics.Sum(name="replaced")
        self.learn_step = tf.function(self.learn_features)

    def build(self, input_shape: Any = None) -> None:
        width, slots = self.backbone.config.width, self.head.config.slots
        self.backbone.build()
        self.prompts.build((None, width))
        self.head.build((None, width))
        self.loss_mask = self.add_weight(name="loss_mask", shape=(slots,), initializer="zeros", trainable=False)
        self.built = True

    # Inference ---------------------------------------------------------------------------------------------------

    def query(self, images: Any) -> Any:
        """Return the prompt-free features, float32 [B, D], of raw RGB `images` [B, H, W, 3]."""
        return self.backbone.features(images)

    def features(self, images: Any, prompt: int | None = None) -> tuple[Any, Any]:
        """Return the prompted features, float32 [B, D], and the prompt of each image, int32 [B].

        Args:
            images: raw RGB [B, H, W, 3].
            prompt: the expert prompt to use for all, or None for the one that each image selects.
        """
        tokens = self.backbone.embed(images)
        if prompt is None:
            prompt = self.prompts.select(self.backbone.encode(tokens))
        else:
            prompt = ops.full((ops.shape(tokens)[0],), prompt, dtype="int32")
        return self.backbone.encode(tokens, self.prompts.prefixes(prompt)), prompt

    def call(self, images: Any) -> Any:
        """Return the logits, float32 [B, C], of raw RGB `images` [B, H, W, 3]; -1e9 for classes not seen yet."""
        return self.head(self.features(images)[0])

    # Learning ----------------------------------------------------------------------------------------------------

    def begin_task(self, images: np.ndarray, slots: Sequence[int], compete: Sequence[int] | None = None) -> None:
        """Take a new expert prompt and open the slots of the task's classes.

        Args:
            images: the task's training images, uint8 [N, H, W, 3].
            slots: the task's class slots.
            compete: the slots that compete in the training loss; default: the task's own.
        """
        self.prompts.begin_task(self.batched(self.query, images))
        mask = ops.convert_to_numpy(self.head.state["class_mask"]).copy()
        mask[list(slots)] = 1.0
        self.head.assign({"class_mask": mask})
        loss_mask = np.zeros_like(mask)
        loss_mask[list(slots if compete is None else compete)] = 1.0
        self.loss_mask.assign(loss_mask)

    def batched(self, function: Any, images: np.ndarray, batch: int = 128) -> np.ndarray:
        """Return `function` of `images` as one array, computed `batch` images at a time."""
        parts = [ops.convert_to_numpy(function(images[i : i + batch])) for i in range(0, len(images), batch)]
        return np.concatenate(parts)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step on (images [B, H, W, 3], labels int32 [B]).

        `images` may be a dictionary: `images`, with `replay_feature` [R, D] and `replay_label` [R] for the head alone.
        """
        x, label, _ = keras.utils.unpack_x_y_sample_weight(data)
        x = x if isinstance(x, dict) else {"images": x}
        images, label = x["images"], ops.cast(label, "int32")
        task = ops.maximum(self.prompts.begun, 1) - 1
        with tf.GradientTape() as tape:
            tokens = self.backbone.embed(images, training=True)
            query = tf.stop_gradient(self.backbone.encode(tokens, training=True))
            index = ops.broadcast_to(task, (ops.shape(label)[0],))
            feature = self.backbone.encode(tokens, self.prompts.prefixes(index), training=True)
            match = ops.mean(ops.take(self.prompts.similarity(query), task, axis=1))

            rows, rows_label = tf.stop_gradient(feature), label
            if "replay_feature" in x:
                rows = ops.concatenate([rows, x["replay_feature"]], axis=0)
                rows_label = ops.concatenate([rows_label, ops.cast(x["replay_label"], "int32")], axis=0)
            result = self.learn_features(rows, rows_label)
            slope = tf.stop_gradient(result["feature_gradient"][: ops.shape(label)[0]])
            # Its gradient by the prompts is that of the head's loss: the chain rule through the feature.
            surrogate = ops.sum(feature * slope) - self.key_weight * match
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(surrogate, [v.value for v in variables]), variables)
        return self._track(result["loss"], result["accuracy"], ops.cast(result["replaced"] >= 0, "float32"))

    def learn_features(self, feature: Any, label: Any) -> dict[str, Any]:
        """One step of the head alone on `feature` [B, D] and `label` int32 [B]; result as `plasticity.step.Head`."""
        # Random by the step's number, so that a reloaded model goes on as the saved one would have.
        seed = ops.stack([0, ops.cast(self.head.state["step"], "int32")])
        fresh = tf.random.stateless_uniform((self.head.width,), seed, -self.head.bound, self.head.bound)
        mask = ops.convert_to_tensor(self.loss_mask)
        return self.head.learn(feature, label, mask, self.head.config.learning_rate, fresh)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Loss (cross-entropy over the classes seen) and accuracy of (images [B, H, W, 3], labels int32 [B])."""
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
        """The model's own: it knows its loss, so `compile` needs neither loss nor metrics."""
        return [self.loss_tracker, self.accuracy_tracker, self.replaced_tracker]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "backbone": self.backbone.config.to_dict(),
            "prompts": self.prompts.config.to_dict(),
            "head": self.head.config.to_dict(),
            "quantized": self.quantized,
            "quantization_mode": get_mode(self),
            "key_weight": self.key_weight,
        }
