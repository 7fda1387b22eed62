"""The general prompt and one expert prompt for every image: no query, no keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_cbpnet.config import PromptConfig
from keras_cbpnet.layers.prompts import assemble

# Dimensions: B images, N tokens, L rows of a prefix, D width.


@keras.saving.register_keras_serializable("keras_cbpnet")
class FixedPrompt(keras.layers.Layer):
    """Instead of `Prompts`: prefixes for keys and values that are the same for all images and tasks.

    So an image takes one pass through the backbone instead of two.

    Args:
        config: length and blocks; a `PromptConfig` or its dictionary. Its pool and query_depth have no meaning here.
        width: D.
    """

    tasks, newest = 1, 0
    reads_tokens = True
    query_depth = None  # there is no query

    def __init__(self, config: PromptConfig | Mapping[str, Any] | None = None, width: int = 128, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config if isinstance(config, PromptConfig) else PromptConfig.from_dict(config or {})
        self.width = width

    def build(self, input_shape: Any = None) -> None:
        c = self.config
        start = keras.initializers.RandomUniform(-0.02, 0.02)
        g_shape = (2 * len(c.g_blocks), c.length, self.width)
        e_shape = (1, 2 * len(c.e_blocks), c.expert_length, self.width)
        self.general = self.add_weight(name="general", shape=g_shape, initializer=start)
        self.expert = self.add_weight(name="expert", shape=e_shape, initializer=start)
        self.built = True

    @property
    def blocks(self) -> tuple[int, ...]:
        """Encoder blocks with a prompt."""
        return (*self.config.g_blocks, *self.config.e_blocks)

    def begin_task(self, query: Any) -> int:
        """Return 0: every task goes on with the one prompt."""
        return 0

    def encode(
        self, backbone: Any, tokens: Any, query: Any = None, prompt: Any = None, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """Return the features, float32 [B, D], zeros int32 [B] and zeros [B].

        Arguments as `Prompts.encode`; `query` and `prompt` are not used.
        """
        rows = ops.shape(tokens)[0]
        expert = ops.broadcast_to(self.expert, (rows, *self.expert.shape[1:]))
        feature = backbone.encode(tokens, assemble(self.config, self.general, expert), training=training)
        return feature, ops.zeros((rows,), "int32"), ops.zeros((rows,))

    def call(self, query: Any) -> Any:
        return ops.zeros((ops.shape(query)[0],), "int32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict(), "width": self.width}
