"""What --target micro adds to a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from keras_cbpnet.export.micro.arena import measure_arena
from keras_cbpnet.export.micro.head_step import convert_head_step
from keras_cbpnet.export.micro.macs import multiply_adds
from keras_cbpnet.export.micro.project import Arenas, write_project
from keras_cbpnet.layers.cbp_head import CBPHead

FILES = ("head_step.tflite", "head_step_b8.tflite")  # beside the bundle's own
BATCH = 8
SGD_RATE = 10.0  # of Adam's step size; measured on digits: 0.001, 0.003 and 0.01 give 91.9, 92.2 and 93.0 %


def with_optimizer(head: CBPHead, optimizer: str) -> CBPHead:
    """Return `head` as it is, or a copy in the same state that goes on learning by another optimizer."""
    if optimizer == head.config.optimizer:
        return head
    rate = head.config.learning_rate * (SGD_RATE if optimizer == "sgd" else 1 / SGD_RATE)
    config = dataclasses.replace(head.config, optimizer=optimizer, learning_rate=rate)
    other = CBPHead(config, head.rule)
    other.build((None, head.width))
    other.feature_mean.assign(head.feature_mean)
    other.feature_scale.assign(head.feature_scale)
    other.assign({name: head.state[name] for name in other.state if name in head.state})
    return other


def write_micro(folder: Path, backbone: bytes, head: CBPHead, labels: list[str]) -> dict[str, Any]:
    """Write head_step.tflite, head_step_b8.tflite and the C++ project micro/ into `folder`.

    Returns:
        The section `micro` of report.json.

    Raises:
        UserError: TFLM is missing, or does not run one of the models.
    """
    models = dict(zip(FILES, (convert_head_step(head, 1), convert_head_step(head, BATCH))))
    for name, content in models.items():
        (folder / name).write_bytes(content)
    arenas = {name: measure_arena(content) for name, content in {"backbone.tflite": backbone, **models}.items()}
    single = models[FILES[0]]
    sizes = Arenas(arenas["backbone.tflite"]["bytes"], arenas[FILES[0]]["bytes"])
    state = write_project(folder / "micro", backbone, single, head.config, labels, sizes)
    seen = multiply_adds(backbone)
    return {
        "optimizer": head.config.optimizer,
        "arena": arenas,
        "arena_bytes": sum(sizes),
        "flash_bytes": len(backbone) + len(single),
        "state_bytes": state,
        "multiply_adds": {
            "backbone": seen,
            "predict": seen + multiply_adds(single),
            "learn": seen + multiply_adds(single),
        },
    }
