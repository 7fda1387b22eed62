"""L2P's pool of prompts, several selected for each image."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cbpnet.layers.projection import without_mean
from keras_cbpnet.layers.prompts import unit

# Dimensions: B images, N tokens, P prompts, K chosen ones, L tokens of a prompt, D width.


@keras.saving.register_keras_serializable("keras_cbpnet")
class PromptPool(keras.layers.Layer):
    """Prompts as further tokens: the K whose keys are nearest to the query, the feature their mean at the output.

    Wang et al., Learning to prompt for continual learning, arXiv 2112.08654. Ours: each image chooses its own prompts
    in training too, where some ports let a batch vote; no penalty on prompts that are chosen often.

    Args:
        size: P.
        chosen: K.
        length: L.
        width: D.
    """

    tasks, newest, blocks = 1, 0, ()
    reads_tokens = True
    query_depth = 0

    def __init__(self, size: int = 10, chosen: int = 5, length: int = 5, width: int = 128, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.chosen, self.length, self.width = size, chosen, length, width

    def build(self, input_shape: Any = None) -> None:
        start = keras.initializers.RandomUniform(-0.02, 0.02)
        self.prompt = self.add_weight(name="prompt", shape=(self.size, self.length, self.width), initializer=start)
        self.key = self.add_weight(name="key", shape=(self.size, self.width), initializer=start)
        self.built = True

    def begin_task(self, query: Any) -> int:
        """Return 0: the whole pool is open to every task."""
        return 0

    def encode(
        self, backbone: Any, tokens: Any, query: Any, prompt: Any = None, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """Return features [B, D], the nearest prompt of each, int32 [B], and the sum of its K cosines, [B].

        Arguments as `Prompts.encode`; `prompt` is not used.
        """
        similarity = ops.matmul(unit(query), ops.transpose(unit(self.key)))  # (B, P)
        cosine, index = ops.top_k(similarity, self.chosen)  # (B, K)
        extra = ops.take(self.prompt, index, axis=0)  # (B, K, L, D)
        # Their mean is subtracted, as from all tokens here: layer normalization relies on it, its result is the same.
        extra = ops.reshape(without_mean(extra), (-1, self.chosen * self.length, self.width))
        feature = backbone.encode_extended(tokens, extra, training=training)
        return feature, ops.cast(index[:, 0], "int32"), ops.sum(cosine, axis=1)

    def call(self, query: Any) -> Any:
        return ops.cast(ops.argmax(ops.matmul(unit(query), ops.transpose(unit(self.key))), axis=1), "int32")

    def get_config(self) -> dict[str, Any]:
        names = ("size", "chosen", "length", "width")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
