"""RanPAC: ridge regression on random features."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_cbpnet.head.standardise import mean_and_scale
from keras_cbpnet.layers.closed_form import ClosedFormHead

# Dimensions: N images, B of a batch, d feature size, M random features, C class slots.

RIDGES = tuple(10.0**power for power in range(-4, 9))


@keras.saving.register_keras_serializable("keras_cbpnet")
class RanPACHead(ClosedFormHead):
    """z = relu(x R) W with a fixed random R [d, M]; W = (G + lambda I)^-1 Q, G = sum h h', Q = sum h y'.

    McDonnell et al., RanPAC: random projections and pre-trained models for continual learning, arXiv 2307.02251. As
    there, each task chooses its lambda by the squared error on a fifth of its images, which are held out for that.
    Ours: what is tried on them is fitted to all tasks so far instead of the task alone; M is 2,000 for features of 192
    numbers (there 10,000 for 768); x is standardised by the first task's images.

    Args:
        slots: C.
        projected: M.
    """

    def __init__(self, slots: int = 16, projected: int = 2000, **kwargs: Any) -> None:
        super().__init__(slots, **kwargs)
        self.projected = projected

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.mean = self._sum("mean", self.width)
        self.scale = self._sum("scale", self.width)
        normal, shape = keras.initializers.RandomNormal(stddev=1.0), (self.width, self.projected)
        self.projection = self.add_weight(name="projection", shape=shape, initializer=normal, trainable=False)
        self.gram = self._sum("gram", self.projected, self.projected)
        self.target = self._sum("target", self.projected, self.slots)

    @property
    def size(self) -> int:
        """M."""
        return self.projected

    def standardise(self, features: np.ndarray) -> None:
        """Take mean and scale of x from `features` [N, d]; see `mean_and_scale`."""
        mean, scale = mean_and_scale(features)
        self.mean.assign(mean)
        self.scale.assign(scale)

    def expand(self, feature: Any) -> Any:
        return ops.relu(ops.matmul((feature - self.mean) / self.scale, self.projection))

    def learn(self, features: NDArray[np.float32], labels: NDArray[np.int32], rng: np.random.Generator) -> float:
        """Add a task's `features` [N, d] with their slots `labels` [N]; return the lambda chosen."""
        hidden = np.concatenate(
            [ops.convert_to_numpy(self.expand(features[i : i + 1000])) for i in range(0, len(features), 1000)]
        ).astype(np.float64)  # (N, M)
        target = np.eye(self.slots)[labels]  # (N, C)
        held = np.zeros(len(labels), bool)
        held[rng.permutation(len(labels))[: len(labels) // 5]] = True
        gram, cross = (ops.convert_to_numpy(v).astype(np.float64) for v in (self.gram, self.target))
        gram_kept, cross_kept = gram + hidden[~held].T @ hidden[~held], cross + hidden[~held].T @ target[~held]
        values, vectors = np.linalg.eigh(gram_kept)
        turned, seen = vectors.T @ cross_kept, hidden[held] @ vectors

        def error(ridge: float) -> float:
            guess = seen @ (turned / (np.maximum(values, 0) + ridge)[:, None])
            return float(np.mean((guess - target[held]) ** 2))

        ridge = min(RIDGES, key=error) if held.any() else 1.0
        gram, cross = gram_kept + hidden[held].T @ hidden[held], cross_kept + hidden[held].T @ target[held]
        self.gram.assign(gram.astype(np.float32))
        self.target.assign(cross.astype(np.float32))
        kernel = np.linalg.solve(gram + ridge * np.eye(len(gram)), cross)
        self.kernel.assign(kernel.astype(np.float32))
        return ridge

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "projected": self.projected}
