"""The second look at the likeliest classes as TensorFlow operations; `Metric._tell_apart` is the same in NumPy.

The covariance that the likeliest classes have in common is the identity and the directions of each, B: by Woodbury's
identity a distance in it needs a linear system of f r unknowns, which is solved here by elimination, one operator after
another, for a .tflite file has no solver.

Dimensions: C classes, d features, r directions of a class, f classes that are looked at again, m = f r.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from firmware_host.shared.bank.metric import FEW, NEAR, SHARE, WEIGHT, Metric

FAR = 1e30  # what a class that is chosen already is put back by
TOGETHER = 4  # pivots whose product has one logarithm: each is at least 1, and their product stays below 1e38
Of = Callable[[NDArray[Any]], NDArray[np.float32]]


class SecondLook(NamedTuple):
    """Constants of the second look.

    Args:
        few: f; below 2 there is nothing to tell apart.
        mean: [C, d].
        basis: of each class's directions, [C, r d].
        deviation: beyond the shared one in these directions, [C, r].
        root: of one over the variance of a next image, directions apart, [C, d].
        constant: what does not depend on the image, [C].
        images: of each class, [C].
    """

    few: int
    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    deviation: NDArray[np.float32]
    root: NDArray[np.float32]
    constant: NDArray[np.float32]
    images: NDArray[np.float32]

    @classmethod
    def of(cls, metric: Metric, prior: NDArray[Any], count: NDArray[Any], known: int, of: Of) -> SecondLook:
        """Return the constants of `metric`.

        Args:
            metric: of the bank.
            prior: of each slot, [K].
            count: images of each slot, [K].
            known: classes that are bound to a slot.
            of: takes what belongs to slots, [K, ...], to classes.
        """
        slots, r, d = metric.basis.shape
        few = min(NEAR, known) if r else 0
        excess = np.maximum(metric.excess * (SHARE / max(few, 1)), 1e-6)
        return cls(
            few,
            of(metric.mean),
            of(metric.basis.reshape(slots, r * d)),
            of(np.sqrt(excess)),
            of(1.0 / np.sqrt(1.0 + metric.open)),
            of(prior - 0.5 * metric.openness),
            of(count),
        )

    def __call__(self, z: Any, q: Any) -> Any:
        """Return the scores `z` [1, C] with those of the likeliest classes judged again; `q` [1, d] is the image."""
        if self.few < 2:
            return z
        index, chosen = likeliest(z, self.few)  # (f,), (f, C)
        best = tf.reduce_sum(chosen * z, axis=1)  # (f,)
        common = tf.gather(self.constant, index) - 0.5 * self._distances(q, index)  # (f,)
        weight = WEIGHT + FEW / tf.maximum(tf.reduce_mean(tf.gather(self.images, index)), 1e-9)
        again = common + weight * best
        others = (1.0 + weight) * z + tf.reduce_mean(common - best)
        others = tf.minimum(others, -tf.reduce_max(-again) - 1e-3)
        any_chosen = tf.reduce_sum(chosen, axis=0)  # (C,)
        z = others * (1.0 - any_chosen) + tf.reduce_sum(chosen * again[:, None], axis=0)
        return z * ((1.0 + WEIGHT) / (1.0 + weight))

    def _distances(self, q: Any, index: Any) -> Any:
        """Return squared distance and log determinant together, [f], of `q` [1, d] to the classes `index` [f]."""
        few, (r, d) = self.few, (self.deviation.shape[1], self.mean.shape[1])
        m = few * r
        basis = tf.reshape(tf.gather(self.basis, index), [m, d])
        rows = basis * tf.reshape(tf.gather(self.deviation, index), [m, 1])  # (m, d)
        root = tf.reshape(tf.gather(self.root, index), [few, 1, d])
        apart = tf.reshape(q - tf.gather(self.mean, index), [few, 1, d]) * root
        vectors = tf.concat([tf.reshape(rows, [1, m, d]) * root, apart], axis=1)  # (f, m + 1, d)
        system = tf.matmul(vectors, vectors, transpose_b=True)  # (f, m + 1, m + 1)
        corner, logarithm = eliminated(system + np.diag([1.0] * m + [0.0]).astype(np.float32), m)
        return corner + logarithm


def likeliest(z: Any, few: int) -> tuple[Any, Any]:
    """Return the `few` largest of `z` [1, C]: their places, int32 [few], and rows with a one at each, [few, C]."""
    places = np.arange(z.shape[1], dtype=np.float32)
    index, chosen = [], []
    for _ in range(few):
        index.append(tf.argmax(z, axis=1, output_type=tf.int32))
        chosen.append(tf.nn.relu(1.0 - tf.abs(places - tf.cast(index[-1], tf.float32))[None]))
        z = z - chosen[-1] * FAR
    return tf.concat(index, axis=0), tf.concat(chosen, axis=0)


def eliminated(system: Any, steps: int) -> tuple[Any, Any]:
    """Eliminate all but the last row and column of symmetric matrices [f, m + 1, m + 1] whose leading part is I + A.

    With [[S, b], [b', c]] given, returns c - b' S^-1 b and log det S, [f] each.
    """
    pivots = []
    for _ in range(steps):
        pivots.append(system[:, :1, :1])
        row = system[:, :1, 1:] / pivots[-1]
        system = system[:, 1:, 1:] - system[:, 1:, :1] * row
    logarithm = None
    for start in range(0, steps, TOGETHER):
        product = pivots[start]
        for pivot in pivots[start + 1 : start + TOGETHER]:
            product = product * pivot
        part = tf.math.log(product)
        logarithm = part if logarithm is None else logarithm + part
    few = system.shape[0]
    return tf.reshape(system, [few]), tf.reshape(logarithm, [few])
