"""Frozen configurations of the model parts; an unknown key raises."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from firmware_host.bundle.contract import BLOCKS, OPTIMIZERS
from keras_cbpnet.errors import UserError

T = TypeVar("T", bound="Config")


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of every configuration: to and from plain dictionaries, strictly."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary of plain Python values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
        """Build from `values`.

        Raises:
            UserError: a key is unknown, and the message lists the known ones; or a value is of another type.
        """
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UserError(f"{cls.__name__}: unknown key {', '.join(unknown)}; known keys: {', '.join(known)}")
        frozen = {key: _frozen(value) for key, value in values.items()}
        for key, value in frozen.items():
            if not _is_like(value, known[key]):
                raise UserError(f"{cls.__name__}: {key} is {value!r}; give a value such as {known[key]!r}")
        return cls(**frozen)


def _frozen(value: Any) -> Any:
    """Return `value` with every list, at any depth, made a tuple."""
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def _is_like(value: Any, default: Any) -> bool:
    """Return whether `value` has the type of `default`; a whole number stands for a float, but NaN for nothing."""
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is type(default)


@dataclasses.dataclass(frozen=True)
class BackboneConfig(Config):
    """A Vision Transformer (Dosovitskiy et al., arXiv 2010.11929).

    Attributes:
        image_size: height and width of the input, pixels.
        stem: (filters, stride) of every 3x3 convolution before the patch embedding; empty for a plain ViT.
        patch_size: kernel and stride of the patch embedding; 3x3 with this stride when there is a stem.
        width: d, the feature size.
        depth: number of encoder blocks.
        heads: attention heads.
        mlp_width: hidden units of each block's MLP.
        activation: `quick_gelu`, x * sigmoid(1.702 x), which TFLM can run, or the exact `gelu` of imported weights.
        whitening: whether a dense layer after the last norm applies a whitening transform to the features, instead of
            scale and offset.
        mean: per-channel mean of the input, in 0..1 of the pixel range.
        deviation: per-channel standard deviation of the input, in 0..1 of the pixel range.
        registers: tokens without a position after the class token (Darcet et al., arXiv 2309.16588).
    """

    image_size: int = 32
    stem: tuple[tuple[int, int], ...] = ((24, 2), (48, 1))
    patch_size: int = 2
    width: int = 128
    depth: int = 6
    heads: int = 4
    mlp_width: int = 352
    activation: str = "quick_gelu"
    whitening: bool = False
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    registers: int = 0

    def __post_init__(self) -> None:
        if self.activation not in ("quick_gelu", "gelu"):
            raise UserError(f"activation must be quick_gelu or gelu, got {self.activation!r}")


@dataclasses.dataclass(frozen=True)
class PromptConfig(Config):
    """DualPrompt's prompts (Wang et al., arXiv 2204.04799), prefix tuning on keys and values.

    Attributes:
        length: rows of the general prompt's prefixes.
        views: of each image as other cameras might take it, for the bank's statistics; 0: none.
        expert_length: rows of the expert prompts' prefixes.
        g_blocks: encoder blocks with the general prompt, which all tasks share.
        e_blocks: encoder blocks with the expert prompt, one per task.
        pool: number of expert prompts, at least the number of tasks.
        query_depth: encoder blocks of the prompt-free pass that selects the expert prompt; 0: all of them.
    """

    length: int = 5
    expert_length: int = 5
    g_blocks: tuple[int, ...] = (0, 1)
    e_blocks: tuple[int, ...] = (2, 3, 4)
    pool: int = 5
    query_depth: int = 0

    def __post_init__(self) -> None:
        if both := set(self.g_blocks) & set(self.e_blocks):
            raise UserError(f"a block has one kind of prompt, not both: {sorted(both)} are in g_blocks and e_blocks")
        if self.query_depth < 0:
            raise UserError(f"query_depth must not be negative, got {self.query_depth}")


@dataclasses.dataclass(frozen=True)
class HeadConfig(Config):
    """The trainable head and its continual backpropagation (Dohare et al., Nature 2024).

    Attributes:
        block: its form; see `firmware_host.bundle.BLOCKS`.
        units: h, hidden units of the block.
        slots: C, class slots, at least the number of classes; spare ones are for classes met on the device.
        batch: B, rows of one training step.
        decay_rate: eta of the utility and activation traces.
        replacement_rate: units reset per step and eligible unit.
        maturity_threshold: steps for which a new or reset unit is protected.
        learning_rate: the optimizer's step size.
        block_rate: factor on the learning rate for the block's tensors.
        logit_scale: factor on the cosine of the `prototype` block.
        optimizer: `adam`, or `sgd`, which keeps no moments: a third of the memory, for microcontrollers.
    """

    block: str = "prototype"
    units: int = 64
    slots: int = 16
    batch: int = 16
    decay_rate: float = 0.99
    replacement_rate: float = 1e-4
    maturity_threshold: int = 100
    learning_rate: float = 1e-3
    block_rate: float = 1.0
    logit_scale: float = 20.0
    optimizer: str = "adam"

    def __post_init__(self) -> None:
        if self.block not in BLOCKS:
            raise UserError(f"block must be one of {', '.join(BLOCKS)}, got {self.block!r}")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if not self.replacement_rate >= 0:  # NaN too
            raise UserError(f"replacement_rate must be from 0 on, got {self.replacement_rate}")
        if self.replacement_rate * self.units > 1:
            raise UserError(
                f"replacement_rate * units must be at most 1, got {self.replacement_rate} * {self.units}; "
                "at most one unit is reset in a step"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
    """One run of `python -m keras_cbpnet.train`; config.json of the run folder.

    Attributes:
        preset: backbone.
        weights: file of the backbone's weights; empty for those that are shipped with the preset.
        depth: first encoder blocks of the backbone that are used; 0: all.
        dataset: source of the images, as `--dataset`.
        method: what is trained; see `tables.METHODS`.
        plasticity: the block's learning rule, with hyper-parameters if other than its defaults; see `parse_rule`.
        prompts: whether method cbpnet has prompts.
        bank: whether method cbpnet has a bank of class statistics beside its block.
        expert_length: rows of an expert prompt's prefixes.
        prompt_tasks: number of first tasks that have and train prompts, which stay as they are from then on; 0: all.
        prompt_selection: `key` (each image selects the expert prompt whose key is nearest to its query) or `fixed` (one
            expert prompt for all images and tasks, no query pass).
        query_depth: encoder blocks of the query pass; 0: all of them.
        stream: `class` (classes split into tasks), `drifting` (tasks drawn with replacement, labels used again) or
            `domain` (the same classes in one domain after another).
        ways, shots: classes of a drifting task, and training images of each.
        tasks: number of tasks of the stream.
        device_tasks: the last tasks, left to the device.
        epochs: passes over each task's images, prompts and head together.
        head_epochs: passes over each task's features after them, the head alone.
        seed: of class order, weights, batches.
        learning_rate: of the head's Adam.
        prompt_learning_rate: of the prompts' Adam.
        replay: `statistics` (half of each batch drawn from class statistics) or `none`.
        whiten: whose images set the whitening transform of the features: `none`, `task` (the first task's) or another
            data set's, by its name.
        adapt: how the first task's images adapt the backbone, before all else: `none` or `alore`, with settings as
            `--adapt` takes them.
        qat: whether to train through int8 fake quantizers.
        block, units, slots, batch, decay_rate, replacement_rate, maturity_threshold: see `HeadConfig`; slots 0 stands
            for the data set's classes, rounded up to a multiple of 16.
    """

    preset: str = "vit_nano_32"
    weights: str = ""
    depth: int = 0
    dataset: str = "digits"
    method: str = "cbpnet"
    plasticity: str = "cbp"
    prompts: bool = False
    bank: bool = True
    views: int = 1
    expert_length: int = 5
    prompt_tasks: int = 0
    prompt_selection: str = "key"
    query_depth: int = 0
    stream: str = "class"
    ways: int = 10
    shots: int = 50
    tasks: int = 5
    device_tasks: int = 0
    epochs: int = 3
    head_epochs: int = 20
    seed: int = 0
    learning_rate: float = 1e-3
    prompt_learning_rate: float = 1e-3
    replay: str = "none"
    whiten: str = "none"
    adapt: str = "none"
    qat: bool = True
    block: str = "prototype"
    units: int = 64
    slots: int = 0
    batch: int = 32
    decay_rate: float = 0.99
    replacement_rate: float = 1e-4
    maturity_threshold: int = 100


# What `--paper` sets: CBPNet as published, with prompts and without what is ours.
PAPER: Mapping[str, Any] = {
    "method": "cbpnet",
    "plasticity": "cbp",
    "prompts": True,
    "bank": False,
    "views": 0,
    "replay": "none",
}


def read_config(run: Path) -> TrainConfig:
    """Return the configuration of the run folder `run`.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = run / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
        values.pop("version", None)
        return TrainConfig.from_dict(values)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{run} is not a run folder: it has no config.json") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); put it back as it was, or train again") from None
