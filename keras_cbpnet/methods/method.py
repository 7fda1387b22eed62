"""What every method is: the layers around the frozen backbone, and how the head learns a task's features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.config import HeadConfig, PromptConfig, TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.sizes import backbone_of
from keras_cbpnet.tables import METHODS, SELECTIONS

if TYPE_CHECKING:  # methods are named and checked without Keras
    from keras_cbpnet.layers import interfaces
    from keras_cbpnet.layers.cbp_head import CBPHead
    from keras_cbpnet.layers.mixed_head import MixedHead
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
        views: features [V, d] of the images as other cameras might take them, and the row of each one's image, [V];
            None where the method does not ask for them.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int32]
    statistics: ClassStatistics
    rng: np.random.Generator
    views: tuple[NDArray[np.float32], NDArray[np.intp]] | None = None


def block_head(model: PromptedClassifier) -> CBPHead:
    """Return the model's head, for methods whose `head` makes one that learns by gradient descent."""
    return cast("CBPHead", model.head)


def mixed_head(model: PromptedClassifier) -> MixedHead:
    """Return the model's head, for methods whose `head` makes one with a bank."""
    return cast("MixedHead", model.head)


class Method:
    """A head that learns by gradient descent on frozen features, without prompts: what the methods differ from.

    Attributes:
        in_bundle: whether a run of the method can be converted: a device can go on with it.
        needs_bank: whether the bank predicts alone, so that a device without one cannot go on with it.
        sees_views: whether it learns from views of the images as other cameras might take them.
        options: those settings of `TrainConfig` that mean something to this method and not to every one.
    """

    in_bundle: ClassVar[bool] = True
    needs_bank: ClassVar[bool] = False
    sees_views: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ()

    def check(self, config: TrainConfig) -> None:
        """Refuse settings that this method does not have.

        Raises:
            UserError: one line about the first of them.
        """
        default = TrainConfig()
        for option in dict.fromkeys(option for method in METHODS.values() for option in method.options):
            if option not in self.options and getattr(config, option) != getattr(default, option):
                having = " and ".join(name for name, method in METHODS.items() if option in method.options)
                raise UserError(f"{given(config, option)} is for --method {having}, not {config.method}")

    def prompts(self, config: TrainConfig, width: int) -> interfaces.Prompts:
        """Return the prompts of a run on features of `width` numbers."""
        from keras_cbpnet.layers.no_prompts import NoPrompts

        return NoPrompts(name="prompts")

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        """Return the head of a run with `slots` class slots."""
        raise NotImplementedError

    def begin_task(self, model: PromptedClassifier) -> None:
        """Do what is due before every task."""

    def learn_head(self, model: PromptedClassifier, seen: Seen, config: TrainConfig) -> Iterator[Row]:
        """Train the head alone on a task; yield one row of numbers per epoch.

        Args:
            model: whose prompts have learned the task.
            seen: what the task gives.
            config: of the run.
        """
        from keras_cbpnet.methods.batches import FeatureBatches

        replayed = seen.statistics if config.replay == "statistics" else None
        batches = FeatureBatches(seen.features, seen.labels, config.batch, replayed, seen.rng)
        for _ in range(config.head_epochs):
            yield block_head(model).learn_many(*batches.epoch(), model.loss_mask)


class LinearMethod(Method):
    """A masked linear classifier z = x w3 + b3 whose optimizer begins again with each task.

    It is the head `residual` with a block of one unit that is not trained and adds nothing, so that it goes into a
    bundle as it is; x is the feature standardised by the first task's images, as for every head that is trained.
    """

    def head(self, config: TrainConfig, slots: int) -> interfaces.Head:
        from keras_cbpnet.layers.cbp_head import CBPHead

        sizes: dict[str, Any] = {"block": "residual", "units": 1, "block_rate": 0.0}
        sizes.update(slots=slots, batch=config.batch, learning_rate=config.learning_rate)
        return CBPHead(HeadConfig(**sizes), "none", own_step=True, name="head")

    def begin_task(self, model: PromptedClassifier) -> None:
        block_head(model).restart_optimizer()


SELECTING = ("prompt_selection", "query_depth")  # the options of DualPrompt's prompts


def given(config: TrainConfig, option: str) -> str:
    """Return `option` as the command line gives its value in `config`, such as `--query-depth 2`."""
    name, value = option.replace("_", "-"), getattr(config, option)
    return f"--{name} {value}" if not isinstance(value, bool) else f"--{name}" if value else f"--no-{name}"


def check_selection(config: TrainConfig) -> None:
    """Refuse a selection of DualPrompt's prompts that the backbone or the other option does not have.

    Raises:
        UserError: one line about the first thing that is wrong.
    """
    depth = backbone_of(config).depth
    if not 0 <= config.query_depth <= depth:
        raise UserError(
            f"--query-depth must be from 0 to {depth}, the blocks of {config.preset}; got {config.query_depth}"
        )
    if config.prompt_selection == "fixed" and config.query_depth:
        raise UserError(f"--query-depth {config.query_depth} is for --prompt-selection key; fixed has no query")


def prompted_blocks(depth: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which of a backbone's `depth` blocks have the general and which an expert prompt.

    DualPrompt's five; of fewer blocks the same shares.
    """
    every = PromptConfig()
    known = len(every.g_blocks) + len(every.e_blocks)
    if depth >= known:
        return every.g_blocks, every.e_blocks
    general = round(depth * len(every.g_blocks) / known)
    return tuple(range(general)), tuple(range(general, depth))


def dual_prompts(config: TrainConfig, width: int) -> interfaces.Prompts:
    """Return DualPrompt's prompts as a run selects them, on features of `width` numbers."""
    general, expert = prompted_blocks(backbone_of(config).depth)
    blocks: dict[str, Any] = {"g_blocks": general, "e_blocks": expert}
    sizes = PromptConfig(
        expert_length=config.expert_length, pool=config.tasks, query_depth=config.query_depth, **blocks
    )
    return SELECTIONS[config.prompt_selection](sizes, width, name="prompts")
