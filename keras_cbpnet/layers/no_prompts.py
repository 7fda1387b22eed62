"""No prompts, for methods that learn on the plain frozen features."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

# Dimensions: B images, N tokens, D width.


@keras.saving.register_keras_serializable("keras_cbpnet")
class NoPrompts(keras.layers.Layer):
    """Instead of `Prompts`: the features are the queries."""

    tasks, newest, blocks = 1, 0, ()
    reads_tokens = False  # a query is enough
    query_depth = 0

    def begin_task(self, query: Any) -> int:
        """Return prompt 0."""
        return 0

    def encode(
        self, backbone: Any, tokens: Any, query: Any, prompt: Any = None, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """Return `query`, zeros int32 [B] and zeros [B]; arguments as `Prompts.encode`, `tokens` may be None."""
        zeros = ops.zeros_like(query[:, 0])
        return query, ops.cast(zeros, "int32"), zeros

    def call(self, query: Any) -> Any:
        return self.encode(None, None, query)[1]
