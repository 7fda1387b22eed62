"""A stream of training batches for the head, and the same head in NumPy; neither Keras nor TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from firmware_host.bundle import state_shapes
from firmware_host.engines.numpy_head import NumpyHead

# Dimensions: d features, h hidden units, C class slots, B rows.


class Case(NamedTuple):
    """A head with quick rebirths and the constants of its features."""

    block: str
    d: int
    h: int
    C: int
    B: int
    changes: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """What `HeadConfig` takes."""
        sizes = {"block": self.block, "units": self.h, "slots": self.C, "batch": self.B}
        rates = {"maturity_threshold": 20, "replacement_rate": 0.006, "learning_rate": 1e-3, "block_rate": 0.5}
        return {**sizes, **rates, "decay_rate": 0.99, "logit_scale": 4.0, **self.changes}

    @property
    def constants(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale of the features, float32 [d]."""
        rng = np.random.default_rng(11)
        return rng.normal(0, 0.3, self.d).astype(np.float32), rng.uniform(0.4, 0.9, self.d).astype(np.float32)

    def start(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Every state tensor as it is before the first step; all classes but the last are seen."""
        shapes = state_shapes(self.block, self.d, self.h, self.C, self.changes.get("optimizer", "adam"))
        state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        bound = np.sqrt(6 / self.d)
        state["w1"] = np.random.default_rng(seed).uniform(-bound, bound, shapes["w1"]).astype(np.float32)
        state["class_mask"][: self.C - 1] = 1
        return state

    def numpy_head(self, state: dict[str, np.ndarray]) -> NumpyHead:
        """The device package's engine with this head's settings."""
        mean, scale = (constant.tolist() for constant in self.constants)
        return NumpyHead({**self.settings, "feature_mean": mean, "feature_scale": scale}, state)

    def stream(self, steps: int, seed: int = 0) -> Iterator[tuple[Any, ...]]:
        """Yield feature, label, class_mask, learning rate and fresh weights of each step.

        The competing classes change at every step, some rows are empty, and now and then all of them.
        """
        rng = np.random.default_rng(seed)
        mean, scale = self.constants
        centres = rng.normal(0, 0.4, (self.C, self.d))
        bound = np.sqrt(6 / self.d)
        for step in range(steps):
            active = rng.choice(self.C, rng.integers(2, self.C + 1), replace=False)
            label = rng.choice(active, self.B)
            x = centres[label] + rng.normal(0, 0.6, (self.B, self.d))
            label[rng.random(self.B) < (1 if step % 40 == 39 else 0.2)] = -1
            class_mask = np.zeros(self.C, np.float32)
            class_mask[active] = 1
            fresh = rng.uniform(-bound, bound, self.d).astype(np.float32)
            feature = (x * scale + mean).astype(np.float32)
            yield feature, label.astype(np.int32), class_mask, np.float32(1e-3), fresh


def step_case(block: str, optimizer: str, batch: int) -> Case:
    """The heads of the tests of head_step.tflite."""
    return Case(block, 24, 12, 10, batch, {"optimizer": optimizer, "block_rate": 1.0 if batch == 1 else 0.5})
