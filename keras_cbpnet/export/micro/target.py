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
from keras_cbpnet.export.micro.head_step import convert_head_step
from keras_cbpnet.export.micro.project import Learner, write_project
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


def write_micro(folder: Path, backbone: bytes, learner: Learner, targets: Mapping[str, Any]) -> dict[str, Any]:
    """Write the head's steps and the C++ project micro/ into `folder`.

    Args:
        folder: of the bundle.
        backbone: backbone.tflite.
        learner: what learns on the board.
        targets: what `target_rows` says of the backbone.

    Returns:
        The section `micro` of report.json.

    Raises:
        UserError: TFLM is missing, or does not run one of the models.
    """
    head = learner.head
    models = {name: convert_head_step(head, rows) for name, rows in files(head.config).items()}
    for name, content in models.items():
        (folder / name).write_bytes(content)
    arenas = {name: measure_arena(content) for name, content in {"backbone.tflite": backbone, **models}.items()}
    name, single = next(iter(models.items()))
    arena = shared_arena(arenas["backbone.tflite"], arenas[name])
    state = write_project(folder / "micro", backbone, single, learner, arena)
    image, step = multiply_adds(backbone), multiply_adds(single)
    return {
        "optimizer": head.config.optimizer,
        "arena": arenas,
        "arena_bytes": arena,
        "bank_bytes": memory(head.slots, head.width) if learner.bank else 0,
        "flash_bytes": len(backbone) + len(single) + len(learner.start),
        "state_bytes": state,
        "multiply_adds": {"backbone": image, "head_step": step, "predict": image + step, "learn": image + step},
        "ethos_u": {target: targets[target] for target in ETHOS_U if target in targets},
    }
