"""A head as files: head.tflite, where it starts, and batches to train it with; for benchmarks of the training step.

Dimensions: d features, C class slots, B rows.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from keras_cbpnet.config import HeadConfig

__all__ = ["BATCHES", "write_head"]

BATCHES = 64


def write_head(config: HeadConfig, d: int, folder: Path) -> None:
    """Write a head that has seen every class to `folder`, which is made.

    head.tflite; config.json, the `head` section of a manifest; state.npz, every state tensor; batches.npz: 64 times
    feature [B, d], label [B], class_mask [C] and fresh [d].

    Args:
        config: of the head.
        d: features.
        folder: where to.
    """
    from keras_cbpnet.export.head import convert_head
    from keras_cbpnet.layers.cbp_head import CBPHead

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    mean, scale = rng.normal(0, 0.3, d).astype(np.float32), rng.uniform(0.4, 0.9, d).astype(np.float32)
    centres = rng.normal(0, 0.05, (config.slots, d)).astype(np.float32)
    label = rng.integers(0, config.slots, (BATCHES, config.batch)).astype(np.int32)
    x = centres[label] + rng.normal(0, 1.0, (*label.shape, d))
    bound = math.sqrt(6 / d)
    head = CBPHead(config, own_step=True)
    head.build((None, d))
    head.feature_mean.assign(mean)
    head.feature_scale.assign(scale)
    w1 = rng.uniform(-bound, bound, (d, config.units))
    counts = {"class_mask": np.ones(config.slots), "class_count": np.full(config.slots, 4.0)}
    head.assign({"w1": w1, "class_mean": centres * scale + mean, **counts})
    (folder / "head.tflite").write_bytes(convert_head(head))
    np.savez(folder / "state.npz", **{key: value.numpy() for key, value in head.state.items()})
    np.savez(
        folder / "batches.npz",
        feature=(x * scale + mean).astype(np.float32),
        label=label,
        class_mask=np.ones((BATCHES, config.slots), np.float32),
        fresh=rng.uniform(-bound, bound, (BATCHES, d)).astype(np.float32),
    )
    constants = {"feature_mean": mean.tolist(), "feature_scale": scale.tolist()}
    (folder / "config.json").write_text(json.dumps({**dataclasses.asdict(config), **constants}))
