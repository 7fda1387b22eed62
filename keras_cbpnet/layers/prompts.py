"""DualPrompt's general and expert prompts, selected image by image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_cbpnet.config import PromptConfig

# Dimensions: B images, P expert prompts, L rows of a prefix, D width.


def unit(x: Any) -> Any:
    """Return the rows of `x` scaled to length 1."""
    return x / ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True) + 1e-12)


@keras.saving.register_keras_serializable("keras_cbpnet")
class Prompts(keras.layers.Layer):
    """Prefixes for keys and values: a general prompt that all tasks share, an expert prompt and a key per task.

    Wang et al., DualPrompt, arXiv 2204.04799. Ours: a task's key starts at the mean direction of its queries, where the
    key loss would pull it.

    Args:
        config: length, blocks and pool size; a `PromptConfig` or its dictionary.
        width: D.
    """

    reads_tokens = True  # the features are more than the queries

    def __init__(self, config: PromptConfig | Mapping[str, Any] | None = None, width: int = 128, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config if isinstance(config, PromptConfig) else PromptConfig.from_dict(config or {})
        self.width = width

    def build(self, input_shape: Any = None) -> None:
        c = self.config
        start = keras.initializers.RandomUniform(-0.02, 0.02)
        g_shape = (2 * len(c.g_blocks), c.length, self.width)
        e_shape = (c.pool, 2 * len(c.e_blocks), c.expert_length, self.width)
        self.general = self.add_weight(name="general", shape=g_shape, initializer=start)
        self.expert = self.add_weight(name="expert", shape=e_shape, initializer=start)
        self.key = self.add_weight(name="key", shape=(c.pool, self.width), initializer=start)
        self.begun = self.add_weight(name="begun", shape=(), dtype="int32", initializer="zeros", trainable=False)
        self.built = True

    @property
    def tasks(self) -> int:
        """Number of expert prompts in use."""
        return int(self.begun)

    @property
    def newest(self) -> Any:
        """Index of the expert prompt in use that was taken last, int32 []."""
        return ops.maximum(ops.convert_to_tensor(self.begun), 1) - 1

    @property
    def query_depth(self) -> int:
        """Encoder blocks of the query pass; 0: all."""
        return self.config.query_depth

    @property
    def blocks(self) -> tuple[int, ...]:
        """Encoder blocks with a prompt."""
        return (*self.config.g_blocks, *self.config.e_blocks)

    def begin_task(self, query: np.ndarray) -> int:
        """Take the next expert prompt into use, starting from the previous one.

        Args:
            query: of the task's images, float32 [N, D].

        Returns:
            The prompt's index.

        Raises:
            ValueError: the pool is used up.
        """
        index = self.tasks
        if index >= self.config.pool:
            raise ValueError(f"all {self.config.pool} expert prompts are in use; configure a larger pool")
        if index > 0:
            expert = ops.convert_to_numpy(self.expert)
            expert[index] = expert[index - 1]
            self.expert.assign(expert)
        key = ops.convert_to_numpy(self.key)
        key[index] = ops.convert_to_numpy(unit(ops.mean(unit(query), axis=0)))
        self.key.assign(key)
        self.begun.assign(index + 1)
        return index

    def similarity(self, query: Any) -> Any:
        """Return the cosine, float32 [B, P], of `query` [B, D] and every key."""
        return ops.matmul(unit(query), ops.transpose(unit(self.key)))

    def select(self, query: Any) -> Any:
        """Return the index, int32 [B], of the key in use that is nearest to each `query` [B, D]."""
        unused = ops.cast(ops.arange(self.config.pool) >= ops.maximum(self.begun, 1), "float32")  # (P,)
        return ops.cast(ops.argmax(self.similarity(query) - 4.0 * unused, axis=1), "int32")

    def prefixes(self, index: Any) -> dict[int, tuple[Any, Any]]:
        """Return (keys, values), each float32 [B, L, D], by encoder block, for the expert prompts `index` int32 [B]."""
        return assemble(self.config, self.general, ops.take(self.expert, index, axis=0))

    def encode(
        self, backbone: Any, tokens: Any, query: Any, prompt: Any = None, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """Run the frozen backbone with the prompts.

        Args:
            backbone: a `models.Backbone`.
            tokens: what its `embed` gives, float32 [B, N, D].
            query: its prompt-free features, float32 [B, D], or those after `query_depth` blocks.
            prompt: index of the expert prompt for all, int32 []; None for the one that each query selects.
            training: whether the fake quantizers follow the ranges they see.

        Returns:
            The features, float32 [B, D]; the expert prompt of each, int32 [B]; the cosine of query and key, [B].
        """
        index = self.select(query) if prompt is None else ops.broadcast_to(prompt, (ops.shape(query)[0],))
        feature = backbone.encode(tokens, self.prefixes(index), training=training)
        chosen = ops.one_hot(index, self.config.pool)  # (B, P)
        return feature, index, ops.sum(self.similarity(query) * chosen, axis=1)

    def call(self, query: Any) -> Any:
        return self.select(query)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict(), "width": self.width}


def assemble(config: PromptConfig, general: Any, expert: Any) -> dict[int, tuple[Any, Any]]:
    """Return (keys, values), float32 [B, L, D], by encoder block.

    Args:
        config: which blocks have which prompt.
        general: float32 [2 G, L, D], keys and values of the G general blocks in turn.
        expert: float32 [B, 2 E, L, D], keys and values of the E expert blocks in turn.
    """
    rows = ops.shape(expert)[0]
    found = {}
    for i, block in enumerate(config.g_blocks):
        pair = (ops.broadcast_to(general[2 * i + j], (rows, *general.shape[1:])) for j in range(2))
        found[block] = tuple(pair)
    for i, block in enumerate(config.e_blocks):
        found[block] = (expert[:, 2 * i], expert[:, 2 * i + 1])
    return found
