"""What the model asks of its two parts around the frozen backbone: the prompts, and the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.errors import UserError

# Dimensions: B images, N images of a task, d feature size, C class slots.

__all__ = ["Head", "Prompts", "query_blocks"]


@runtime_checkable
class Prompts(Protocol):
    """A Keras layer that encodes images with prompts."""

    @property
    def reads_tokens(self) -> bool:
        """Whether the features are more than the queries, so that there is something to train."""

    @property
    def query_depth(self) -> int | None:
        """Encoder blocks of the query pass, as it was configured; read by `query_blocks` alone."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Encoder blocks with a prompt."""

    @property
    def newest(self) -> Any:
        """Index of the prompt that the present task trains, int32 []."""

    @property
    def weights(self) -> list[Any]:
        """As in every Keras layer."""

    def build(self, input_shape: Any) -> None:
        """As in every Keras layer."""

    def get_config(self) -> dict[str, Any]:
        """As in every Keras layer."""

    def begin_task(self, query: Any) -> int:
        """Prepare for a task whose images have the queries `query` [N, d]; return the index of its prompt."""

    def encode(
        self, backbone: Any, tokens: Any, query: Any, prompt: Any = None, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """Return features [B, d], the prompt of each image, int32 [B], and how well it matches the query, [B].

        Args:
            backbone: a `models.backbone.Backbone`.
            tokens: what its `embed` gives for the images; None is enough where `reads_tokens` is false.
            query: what selects the prompts, [B, d]; None where there is no query pass.
            prompt: index of the prompt for all images, int32 []; None: each image selects its own.
            training: whether the fake quantizers follow the ranges they see.
        """


@runtime_checkable
class Head(Protocol):
    """A Keras layer that gives logits of features, and learns by its own step or sum."""

    compiled: bool  # whether many steps go through XLA

    @property
    def slots(self) -> int:
        """C."""

    def build(self, input_shape: Any) -> None:
        """As in every Keras layer."""

    def __call__(self, feature: Any) -> Any:
        """Return the logits [B, C] of `feature` [B, d]; -1e9 for classes not seen yet."""

    def standardise(self, features: np.ndarray) -> None:
        """Take the constants of the features' scale from those of the first task, [N, d]."""

    def open(self, slots: Sequence[int]) -> None:
        """Let the classes of `slots` take part."""

    def begin_task(self) -> None:
        """Do what is due between two tasks."""

    def observe_all(self, statistics: ClassStatistics) -> None:
        """Take what the head needs of all images so far from their statistics."""

    def learn(self, *args: Any, **kwargs: Any) -> Any:
        """Learn from what the head's method gives it."""


def query_blocks(prompts: Prompts, depth: int) -> int | None:
    """Return how many of the backbone's `depth` blocks the pass runs that selects the prompts; None: there is no pass.

    Here and nowhere else it is decided what `query_depth` means: None, prompts that select nothing; 0, all blocks; N,
    the first N.

    Raises:
        UserError: the backbone has fewer.
    """
    wanted = prompts.query_depth
    if wanted is not None and wanted > depth:
        raise UserError(f"query_depth {wanted} is more than the backbone's {depth} blocks")
    return depth if wanted == 0 else wanted
