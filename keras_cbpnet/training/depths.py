"""A finished run at another depth: the same settings and images, the head learned on other features."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.data.record import data_of_run
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.source import Source, load_source, read_run
from keras_cbpnet.keras_settings import use_keras
from keras_cbpnet.models.sizes import backbone_of, stored_depths, whitened
from keras_cbpnet.presets import get_preset
from keras_cbpnet.tables import METHODS

__all__ = ["at_depth", "check_early", "sources_at_depths"]

Progress = Callable[[str], None]


@contextlib.contextmanager
def at_depth(run: Path, config: TrainConfig, depth: int, progress: Progress) -> Iterator[tuple[Path, TrainConfig]]:
    """Yield the folder and the configuration of the run with `depth` encoder blocks, which is trained if it is another.

    Statistics, standardisation, bank and block belong to a depth, so all of them are learned again, from the run's own
    images in the run's own order; what the backbone gives for the images is computed once and cached. The folder of
    another depth is a temporary one.

    Args:
        run: folder of the finished run.
        config: its configuration.
        depth: encoder blocks, the first ones; 0: those of the run.
        progress: called with a line at every step.

    Raises:
        UserError: the backbone has fewer blocks, the run trained prompts, or its data are not there.
    """
    own, whole = backbone_of(config).depth, backbone_of(config, 0).depth
    other = dataclasses.replace(config, depth=0 if depth == whole else depth or config.depth)
    if backbone_of(other).depth == own:
        yield run, config
        return
    if has_prompts(config):
        raise UserError(
            f"--depth {depth}: the prompts of {run} were trained with {own} blocks and fit no other number; train with "
            f"--depth {depth}, then convert that run"
        )
    places: dict[str, Any] = {"dataset": data_of_run(run, config.dataset)}
    if config.whiten not in ("none", "task"):
        places["whiten"] = data_of_run(run, config.whiten, whitening=True)
    settled, why = whitened(dataclasses.replace(other, **places))
    progress(f"learning with {depth} of {whole} encoder blocks{why and '; '}{why}")
    use_keras("tensorflow")
    from keras_cbpnet.training.trainer import train

    with tempfile.TemporaryDirectory() as folder:
        train(settled, Path(folder) / run.name, progress)
        yield Path(folder) / run.name, settled


def sources_at_depths(run: Path, config: TrainConfig, but: int, progress: Progress) -> Iterator[Source]:
    """Yield the run at every other depth for which its weights have a whitening transform, and with all blocks.

    Args:
        run: folder of the finished run.
        config: its configuration; one with prompts yields nothing.
        but: the depth that is left out, 0 for all blocks.
        progress: called with a line at every step.
    """
    whole, stored = backbone_of(config, 0).depth, stored_depths(get_preset(config.preset), config.weights)
    if not stored or has_prompts(config):
        return
    for depth in (*stored, whole):
        if depth != (but or whole):
            with at_depth(run, config, depth, progress) as (folder, found):
                yield load_source(read_run(folder, found, progress))


def check_early(config: TrainConfig, depth: int, early: Sequence[int], target: str) -> None:
    """Refuse numbers of blocks beside `depth`, 0 for the run's, that one bundle for `target` cannot have.

    Raises:
        UserError: one line about the first thing that is wrong.
    """
    if not early:
        return
    first = depth or backbone_of(config).depth
    shown = ",".join(map(str, (first, *early)))
    if target == "micro":
        raise UserError(f"--depth {shown} is for Linux devices; TFLM runs one graph: convert with --depth {early[-1]}")
    if max(early) >= first or min(early) < 1:
        raise UserError(f"--depth {shown}: the first number must be the largest, and each of them at least 1")
    if has_prompts(config):
        raise UserError(f"--depth {shown}: this run trained prompts, which fit one number of blocks alone")


def has_prompts(config: TrainConfig) -> bool:
    """Return whether a run trains prompts."""
    use_keras("tensorflow")  # prompts are layers
    width = get_preset(config.preset).backbone.width
    return METHODS[config.method]().prompts(config, width).reads_tokens
