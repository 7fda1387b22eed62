"""What --target micro adds to a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_cbpnet.config import HeadConfig
from keras_cbpnet.export.accelerators import ETHOS_U
from keras_cbpnet.export.micro.arena import measure_arena, shared_arena
from keras_cbpnet.export.micro.bank import memory
from keras_cbpnet.export.micro.compression import Compression
from keras_cbpnet.export.micro.decode import compress, saved
from keras_cbpnet.export.micro.head_step import convert_head_step
from keras_cbpnet.export.micro.project import Learner, Written, write_end, write_project
from keras_cbpnet.export.tflite_file.macs import multiply_adds
from keras_cbpnet.layers.cbp_head import CBPHead

BATCHES = (1, 8)  # rows of the steps that every bundle has, beside that of the run
SGD_RATE = 10.0  # of Adam's step size; measured on digits: 0.001, 0.003 and 0.01 give 91.9, 92.2 and 93.0 %


def with_optimizer(head: CBPHead, optimizer: str) -> CBPHead:
    """Return `head` as it is, or a copy in the same state that goes on learning by another optimizer."""
    if optimizer == head.config.optimizer:
        return head
    rate = head.config.learning_rate * (SGD_RATE if optimizer == "sgd" else 1 / SGD_RATE)
    config = dataclasses.replace(head.config, optimizer=optimizer, learning_rate=rate)
    other = CBPHead(config, head.rule, own_step=True)
    other.build((None, head.width))
    other.feature_mean.assign(head.feature_mean)
    other.feature_scale.assign(head.feature_scale)
    other.assign({name: head.state[name] for name in other.state if name in head.state})
    return other


def files(config: HeadConfig) -> dict[str, int]:
    """Return the files that the target adds to a bundle, each with the rows of its step; the first is the board's."""
    sizes = sorted({*BATCHES, config.batch})
    return {"head_step.tflite" if rows == 1 else f"head_step_b{rows}.tflite": rows for rows in sizes}


def write_micro(
    folder: Path, backbone: bytes, learner: Learner, targets: Mapping[str, Any], compression: Compression | None = None
) -> tuple[dict[str, Any], Written]:
    """Write the head's steps and the C++ project micro/ of a board that learns into `folder`.

    Args:
        folder: of the bundle.
        backbone: backbone.tflite.
        learner: what learns on the board.
        targets: what `target_rows` says of the backbone.
        compression: how the C++ project keeps the backbone's weights; None: as they are.

    Returns:
        The section `micro` of report.json, and what the project says of itself.

    Raises:
        UserError: TFLM is missing, or does not run one of the models.
    """
    head = learner.head
    models = {name: convert_head_step(head, rows) for name, rows in files(head.config).items()}
    for name, content in models.items():
        (folder / name).write_bytes(content)
    kept = compress(backbone, compression)
    sizes = {} if compression is None else {"compressed": saved(backbone, kept)}
    arenas = {name: measure_arena(content) for name, content in {"backbone.tflite": kept, **models}.items()}
    name, single = next(iter(models.items()))
    arena = shared_arena(arenas["backbone.tflite"], arenas[name])
    written = write_project(folder / "micro", backbone, single, learner, arena, kept)
    image, step = multiply_adds(backbone), multiply_adds(single)
    costs = {"backbone": image, "head_step": step, "predict": image + step, "learn": image + step}
    report = {**_report(learner, arenas, written, targets, sizes), "arena_bytes": arena, "multiply_adds": costs}
    return {**report, "flash_bytes": len(kept) + len(single) + len(learner.start)}, written


def write_micro_end(
    folder: Path, backbone: bytes, learner: Learner, targets: Mapping[str, Any], compression: Compression | None = None
) -> tuple[dict[str, Any], Written]:
    """Write the C++ project micro/ of a board that does not learn; all else as `write_micro`."""
    kept = compress(backbone, compression)
    sizes = {} if compression is None else {"compressed": saved(backbone, kept)}
    arenas = {"backbone.tflite": measure_arena(kept)}
    arena = arenas["backbone.tflite"]["bytes"]
    written = write_end(folder / "micro", backbone, learner, arena, kept)
    image = multiply_adds(backbone)
    report = {**_report(learner, arenas, written, targets, sizes), "arena_bytes": arena}
    costs = {"multiply_adds": {"backbone": image}, "flash_bytes": len(kept) + written.state_bytes}
    return {**report, **costs, "feature_bytes": learner.head.width}, written


def _report(
    learner: Learner,
    arenas: Mapping[str, Any],
    written: Written,
    targets: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> dict[str, Any]:
    head = learner.head
    return {
        "optimizer": head.config.optimizer,
        "arena": dict(arenas),
        "bank_bytes": memory(head.slots, head.width) if learner.bank else 0,
        **sizes,
        "state_bytes": written.state_bytes,
        "ethos_u": {target: targets[target] for target in ETHOS_U if target in targets},
    }
