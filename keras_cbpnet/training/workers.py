"""Processes that share the batches of prompt training, by `tf.distribute`: every one trains the whole run otherwise.

Where TF_CONFIG names several workers, on this machine or on others, each is started with the same command; their run
folder is one that all of them reach. Worker 0 writes it, the others read checkpoints from it. All have the same weights
after every step.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from firmware_host.bundle import ClassStatistics
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.training.run import Run, check_folder

if TYPE_CHECKING:  # looked at without Keras
    import keras

__all__ = ["ALONE", "Follower", "Place", "find_place", "meet", "together"]

VARIABLE = "TF_CONFIG"


class Place(NamedTuple):
    """Which of how many workers this process is.

    Attributes:
        rank: worker 0 writes the run folder.
        size: 1: there are no others.
    """

    rank: int
    size: int


ALONE = Place(0, 1)


def find_place(config: TrainConfig) -> Place:
    """Return this process's place, by the variable TF_CONFIG.

    Raises:
        UserError: the variable is damaged, or the workers cannot share a batch of `config`.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return ALONE
    try:
        described = json.loads(text)
        count, task = len(described["cluster"]["worker"]), described["task"]
        place = Place(int(task["index"]), count)
        right = task["type"] == "worker" and 0 <= place.rank < count
    except (ValueError, TypeError, KeyError):
        right = False
    if not right:
        raise UserError(
            f'{VARIABLE} is {text[:80]!r}; give {{"cluster": {{"worker": ["HOST:PORT", ...]}}, "task": '
            '{"type": "worker", "index": N}} with N from 0 on, or unset it'
        )
    if place.size == 1:
        return ALONE
    images = config.batch - config.batch // 2 if config.replay == "statistics" else config.batch
    if images % place.size:
        raise UserError(
            f"--batch {config.batch} has {images} images a step, which {place.size} workers of {VARIABLE} cannot "
            "share evenly; give another --batch"
        )
    return place


def meet() -> None:
    """Wait until every worker is here."""
    import tensorflow as tf

    from keras_cbpnet.layers.shared_batch import total

    total([tf.ones(())])


@contextlib.contextmanager
def together(place: Place) -> Iterator[None]:
    """Share the batches of this context with the other workers, once all are there; TensorFlow has not computed yet.

    Raises:
        UserError: the others did not come, or one was lost.
    """
    if place.size == 1:
        yield
        return
    import tensorflow as tf

    from keras_cbpnet.layers.shared_batch import among

    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()  # the servers, and who looks after the others
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        said = " ".join(str(error).split())[:160]
        raise UserError(f"the workers of {VARIABLE} did not meet ({said}); start all of them") from None
    try:
        with among(*place):
            yield
        del strategy
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"another worker of {VARIABLE} was lost ({said}); start all {place.size} again with the same command: "
            "they go on from the last checkpoint"
        ) from None


class Follower(Run):
    """The run folder as a worker sees it that does not write it.

    Args:
        path: the folder that worker 0 writes.
        config: of this training.

    Raises:
        UserError: as `check_folder`, but the folder may be in use.
    """

    writes = False

    def __init__(self, path: Path, config: TrainConfig) -> None:
        check_folder(path, config, follows=True)
        self.path = path

    def __exit__(self, *error: object) -> None:
        """Leave the lock to worker 0."""

    def keep(self, *_: Any) -> None:
        """Write nothing."""

    def is_due(self) -> bool:
        """Return that nothing is to be written."""
        return False

    def save(self, model: keras.Model, statistics: ClassStatistics, progress: Mapping[str, Any]) -> None:
        """Write nothing."""

    def finish(
        self,
        model: keras.Model,
        statistics: ClassStatistics,
        metrics: Mapping[str, Any],
        history: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write nothing."""
