"""What every method is: the layers around the frozen backbone, and how the head learns a task's features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.config import HeadConfig, PromptConfig, TrainConfig
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.fixed_prompt import FixedPrompt
from keras_cbpnet.layers.no_prompts import NoPrompts
from keras_cbpnet.layers.prompts import Prompts
from keras_cbpnet.methods.batches import FeatureBatches
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

# Dimensions: N images, d feature size, C class slots.

Row = dict[str, float]


class Seen(NamedTuple):
    """What a task gives a head to learn from.

    Attributes:
        features: of the task's images, [N, d].
        labels: their slots, [N].
        statistics: of the images of this task and of all before it.
        rng: of order and replay.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int32]
    statistics: ClassStatistics
    rng: np.random.Generator


class Method:
    """A head that learns by gradient descent on frozen features, without prompts: what the methods differ from.

    Attributes:
        in_bundle: whether a run of the method can be converted: a device can go on with it.
    """

    in_bundle: ClassVar[bool] = True

    def prompts(self, config: TrainConfig, width: int) -> keras.layers.Layer:
        """Return the prompts of a run on features of `width` numbers."""
        return NoPrompts(name="prompts")

    def head(self, config: TrainConfig, slots: int) -> keras.layers.Layer:
        """Return the head of a run with `slots` class slots."""
        raise NotImplementedError

    def begin_task(self, model: PromptedClassifier) -> None:
        """Do what is due before every task."""

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        """Train the head alone on a task; yield a row of numbers an epoch.

        Args:
            model: whose prompts have learned the task.
            seen: what the task gives.
            config: of the run.
        """
        replayed = seen.statistics if config.replay == "statistics" else None
        batches = FeatureBatches(seen.features, seen.labels, config.batch, replayed, seen.rng)
        for _ in range(config.head_epochs):
            yield model.head.learn_many(*batches.epoch(), model.loss_mask)


class LinearMethod(Method):
    """A masked linear classifier z = x w3 + b3 whose optimizer is made anew for each task.

    It is the head `residual` with a block of one unit that is not trained and adds nothing, so that it goes into a
    bundle as it is; x is the feature standardised by the first task's images, as for every head that is trained.
    """

    def head(self, config: TrainConfig, slots: int) -> keras.layers.Layer:
        sizes: dict[str, Any] = {"block": "residual", "units": 1, "block_rate": 0.0}
        sizes.update(slots=slots, batch=config.batch, learning_rate=config.learning_rate)
        return CBPHead(HeadConfig(**sizes), "none", name="head")

    def begin_task(self, model: PromptedClassifier) -> None:
        model.head.restart_optimizer()


def dual_prompts(config: TrainConfig, width: int) -> keras.layers.Layer:
    """Return DualPrompt's prompts as a run selects them, on features of `width` numbers."""
    if config.prompt_selection == "fixed":
        return FixedPrompt(PromptConfig(expert_length=config.expert_length), width, name="prompts")
    sizes = PromptConfig(expert_length=config.expert_length, pool=config.tasks, query_depth=config.query_depth)
    return Prompts(sizes, width, name="prompts")
