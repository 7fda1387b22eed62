"""What selects the prompt, and what it costs: two passes, a query from an early block, or one prompt for all images.

All choices are taken on one trained run, which was trained with one of them only. The accuracy of a choice that is
trained as such: `keras_cbpnet.train --query-depth N`, `--prompt-selection fixed` or `--no-prompts`, under some --seeds.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.data import Task
from keras_cbpnet.data.streams.task import TaskImages
from keras_cbpnet.export.backbone import convert_backbone
from keras_cbpnet.export.runtimes import run_backbone, time_backbones
from keras_cbpnet.export.tflite_file.macs import multiply_adds
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.fixed_prompt import FixedPrompt
from keras_cbpnet.layers.interfaces import query_blocks
from keras_cbpnet.layers.prompts import Prompts
from keras_cbpnet.methods.method import block_head
from keras_cbpnet.models.prompted_classifier import PromptedClassifier

EARLY = (1, 2, 3)  # blocks of a query pass, beside all of them
IMAGES = 200  # of a task, at most, that keys and class means are taken from

Row = dict[str, Any]


def compare(
    model: PromptedClassifier,
    recipe: str,
    representative: NDArray[np.uint8],
    tasks: Sequence[Task],
    held_out: tuple[NDArray[np.uint8], NDArray[np.int32]],
    runtimes: Sequence[str],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Convert a trained model with every choice of the prompt's selection, and measure.

    Args:
        model: trained, its fake quantizers as `recipe` needs them; where there are no prompts to choose from, nothing
            is compared.
        recipe: of the conversion.
        representative: uint8 [N, S, S, 3], for the converter.
        tasks: that the model was trained on, in their order.
        held_out: test images, uint8 [M, S, S, 3], and their slots [M].
        runtimes: to run the files with; the first one gives the accuracy.
        progress: called with a line at every choice.

    Returns:
        For each choice `name`; `shipped`, whether the model is of this choice; `accuracy` on the held-out images;
        `multiply_adds` of an image; `milliseconds` an image, by runtime.
    """
    if not isinstance(model.prompts, Prompts) or model.prompts.tasks < 2:
        return []
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(len(task.y_train))[:IMAGES] for task in tasks]
    images = [TaskImages(task.data, "train", task.train_rows[rows]) for task, rows in zip(tasks, chosen, strict=True)]
    together = TaskImages(tasks[0].data, "train", np.concatenate([each.rows for each in images]))
    slots = np.concatenate([task.y_train[rows] for task, rows in zip(tasks, chosen, strict=True)])
    test, label = held_out
    rows: list[Row] = []
    files: dict[str, bytes] = {}
    for name, prompts in choices(model, images):
        progress(f"prompt selection: {name}")
        files[name] = convert_backbone(model, recipe, representative, prompts)
        head = _with_means(model, prompts, together, slots)
        found = run_backbone(files[name], test, runtimes[0]).feature
        rows.append(
            {
                "name": name,
                "shipped": name == name_of(model.prompts, model.backbone.config.depth),
                "accuracy": float(np.mean(np.asarray(head(found)).argmax(axis=1) == label)),
                "multiply_adds": multiply_adds(files[name]),
            }
        )
    times = {runtime: time_backbones(files, test[0], runtime) for runtime in runtimes}
    return [{**row, "milliseconds": {runtime: times[runtime][row["name"]] for runtime in runtimes}} for row in rows]


def name_of(prompts: Prompts, depth: int) -> str:
    """Return the name of the choice that `prompts` make on a backbone of `depth` blocks."""
    blocks = query_blocks(prompts, depth)
    return "two passes" if blocks == depth else f"query depth {blocks}"


def choices(
    model: PromptedClassifier, images: Sequence[NDArray[np.uint8] | TaskImages]
) -> Iterator[tuple[str, Prompts | FixedPrompt]]:
    """Yield every choice by name, with the trained prompts of `model`: the keys are taken again, from the new queries.

    Args:
        model: with `Prompts`, more than one of them in use.
        images: of each task, uint8 [N, S, S, 3].
    """
    own, depth = cast("Prompts", model.prompts), model.backbone.config.depth
    used = own.tasks
    early = {blocks for blocks in (*EARLY, cast("int", model.query_blocks)) if blocks < depth}
    for blocks in (depth, *sorted(early)):
        config = dataclasses.replace(own.config, query_depth=blocks, pool=used)
        prompts = Prompts(config, own.width)
        prompts.build()
        prompts.general.assign(own.general)
        query = functools.partial(_query, model, blocks)
        for task in range(used):
            prompts.begin_task(model.batched(query, images[task]))
        prompts.expert.assign(own.expert[:used])
        yield name_of(prompts, depth), prompts
    fixed = FixedPrompt(own.config, own.width)
    fixed.build()
    fixed.general.assign(own.general)
    fixed.expert.assign(own.expert[:1])
    yield "fixed", fixed


def _query(model: PromptedClassifier, blocks: int, images: Any) -> Any:
    return model.backbone.encode(model.backbone.embed(images), depth=blocks)


def _with_means(
    model: PromptedClassifier, prompts: Prompts | FixedPrompt, images: TaskImages, slots: NDArray[np.int32]
) -> CBPHead:
    """Return the head of `model` with the class means of `images` with `prompts`."""
    blocks = query_blocks(prompts, model.backbone.config.depth)

    def prompted(batch: NDArray[np.uint8]) -> Any:
        tokens = model.backbone.embed(batch)
        query = None if blocks is None else model.backbone.encode(tokens, depth=blocks)
        return prompts.encode(model.backbone, tokens, query)[0]

    trained = block_head(model)
    head: CBPHead = type(trained).from_config(trained.get_config())
    head.build((None, trained.width))
    for mine, theirs in zip(head.variables, trained.variables, strict=True):
        mine.assign(theirs)
    statistics = ClassStatistics.empty(head.slots, head.width)
    statistics.update_all(model.batched(prompted, images), slots)
    head.observe_all(statistics)
    return head
