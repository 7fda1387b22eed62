"""The features that a model gives for a task's images, with what is frozen taken from the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from keras_cbpnet.data import Task
from keras_cbpnet.data.views import camera_views
from keras_cbpnet.models.prompted_classifier import PromptedClassifier, traced
from keras_cbpnet.training.features.cache import CachedFeatures, FrozenFeatures, fingerprint

VIEWED = 64  # images of a class that other views are made of


class TaskFeatures:
    """Features by task and part, computed as the model stands.

    Args:
        model: backbone and prompts.
        frozen: the queries, or None where the backbone still changes.
        again: whether the features of a backbone that changes are taken again and again, so that tracing pays.
    """

    def __init__(self, model: PromptedClassifier, frozen: FrozenFeatures | None, again: bool = False) -> None:
        self.model, self.frozen, self._again = model, frozen, again
        self._final: CachedFeatures | None = None
        size, width = model.backbone.config.image_size, model.backbone.config.width
        self._queried = model.query_blocks is not None
        rows = {"images": tf.TensorSpec((None, size, size, 3))}  # any number, traced once
        if self._queried and frozen is not None:
            rows["query"] = tf.TensorSpec((None, width))

        def prompted(batch: dict[str, Any], prompt: Any = None) -> Any:
            return model.features(prompt=prompt, **batch)[0]

        self._selected = tf.function(prompted, (rows,), autograph=False)
        self._prompted = tf.function(prompted, (rows, tf.TensorSpec((), tf.int32)), autograph=False)
        self._asked = tf.function(model.query, (tf.TensorSpec((None, size, size, 3), tf.uint8),), autograph=False)

    def freeze_prompts(self) -> None:
        """Take it that the prompts change no more: from now on the prompted features are computed once too."""
        frozen, backbone = self.frozen, self.model.backbone
        if frozen is None or self._final is not None:
            return
        last = [variable for layer in backbone.last_layers for variable in layer.weights]
        weights = b"".join(np.asarray(v).tobytes() for v in (*self.model.prompts.weights, *last))
        identity = fingerprint(frozen.identity, repr(self.model.prompts.get_config()), weights)
        width = backbone.config.width

        def forward(part: str, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
            return self._computed(frozen, part, rows, None)

        self._final = CachedFeatures(frozen.data, identity, width, forward, frozen.say)

    def query(self, task: Task, part: str) -> NDArray[np.float32] | None:
        """Return the queries, float32 [N, D], of the task's images of `part`, `train` or `test`; None for none."""
        if not self._queried:
            return None
        images = task.images(part)
        if self.frozen is not None:
            return self.frozen.rows(part, images.rows)
        return self.model.batched(self._asked if self._again else self.model.query, images)

    def views(self, task: Task, count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Return features [V, D] of `count` views of each of a task's training images, and the row of each one's image.

        Of a class with many images, those of the first `VIEWED` are enough.
        """
        order = np.argsort(task.y_train, kind="stable")
        number = np.arange(len(order)) - np.searchsorted(task.y_train[order], task.y_train[order])
        rows = np.sort(order[number < VIEWED])
        parts, many = [], self.model.backbone.pass_images
        passes, example = count * -(-len(rows) // many), task.images("train")[:1].astype(np.float32)
        features = traced(lambda x: self.model.features(x)[0], passes, example)
        for view in range(count):
            for start in range(0, len(rows), many):
                chosen = task.train_rows[rows[start : start + many]]
                images = task.data.images("train", chosen)
                numbered = zip(images, chosen, strict=True)
                seen = np.concatenate([camera_views(x[None], seed + view, int(row)) for x, row in numbered])
                parts.append(np.asarray(features(seen.astype(np.float32))))
        return np.concatenate(parts), np.tile(rows, count)

    def __call__(self, task: Task, part: str, prompt: Any = None) -> NDArray[np.float32]:
        """Return the prompted features, float32 [N, D].

        Args:
            task: whose images.
            part: `train` or `test`.
            prompt: the expert prompt to use for all, int32 []; None for the one that each image selects.
        """
        images = task.images(part)
        if self.frozen is None and self._again:
            return self._passes(lambda rows: images[rows], len(images), None, prompt)
        if self.frozen is None:
            return self.model.batched(lambda x: self.model.features(x, prompt)[0], images)
        if not self.model.prompts.reads_tokens:
            return self.frozen.rows(part, images.rows)
        if self._final is not None and prompt is None:
            return self._final.rows(part, images.rows)
        return self._computed(self.frozen, part, images.rows, prompt)

    def _computed(
        self, frozen: FrozenFeatures, part: str, rows: NDArray[np.integer[Any]], prompt: Any
    ) -> NDArray[np.float32]:
        query = frozen.rows(part, rows) if self._queried else None
        return self._passes(lambda some: frozen.data.images(part, rows[some]), len(rows), query, prompt)

    def _passes(
        self, images: Callable[[slice], NDArray[np.uint8]], count: int, query: NDArray[np.float32] | None, prompt: Any
    ) -> NDArray[np.float32]:
        """Return the features of `count` images, by the traced functions; `images` gives some of them."""
        parts, many = [], self.model.backbone.pass_images
        for start in range(0, count, many):
            some = slice(start, start + many)
            batch = {"images": images(some).astype(np.float32)}
            if query is not None:
                batch["query"] = query[some]
            found = self._selected(batch) if prompt is None else self._prompted(batch, prompt)
            parts.append(ops.convert_to_numpy(found))
        return np.concatenate(parts)
