"""What a run writes for TensorBoard."""

import pytest
import tensorflow as tf
from helpers import tiny_stream

from keras_cbpnet.training.trainer import train


@pytest.mark.slow
def test_every_epoch_is_an_event(tiny_backbone, tmp_path):
    with tiny_stream.opened(tmp_path, tiny_backbone) as stream:
        train(stream.config(method="finetune", head_epochs=2), tmp_path / "run", board=True)
        train(stream.config(method="finetune", seed=4), tmp_path / "without")
    losses = []
    for file in (tmp_path / "run" / "tensorboard").rglob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            losses += [float(tf.make_ndarray(v.tensor)) for v in event.summary.value if v.tag.endswith("loss")]
    assert len(losses) == 2 * 2  # tasks, epochs of the head
    assert all(0 < loss < 10 for loss in losses)
    assert not (tmp_path / "without" / "tensorboard").exists()
