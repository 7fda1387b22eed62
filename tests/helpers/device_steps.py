"""What tests of the device look at from inside: the training steps that its NumPy head was asked for, and its state."""

from typing import NamedTuple

import numpy as np

from firmware_host.engines.numpy_head import NumpyHead


class Step(NamedTuple):
    """Inputs of one training step: feature [B, d], label [B] (-1 = empty row), mask [C], rate, fresh [d]."""

    feature: np.ndarray
    label: np.ndarray
    mask: np.ndarray
    rate: float
    fresh: np.ndarray


def watch(monkeypatch):
    """Return a list to which every training step of any NumPy head is added from now on."""
    steps, train = [], NumpyHead.train

    def watched(self, feature, label, class_mask, learning_rate, fresh):
        steps.append(Step(feature.copy(), label.copy(), class_mask.copy(), learning_rate, fresh.copy()))
        return train(self, feature, label, class_mask, learning_rate, fresh)

    monkeypatch.setattr(NumpyHead, "train", watched)
    return steps


def snapshot(device):
    """Return a copy of everything that the device knows, saved or not."""
    return device._working.snapshot()


def everything(device):
    """Return all that a device knows as one nested dictionary, to be compared bit by bit."""
    now = vars(snapshot(device))
    opened = {name: now[name].arrays() for name in ("statistics", "buffer", "unknowns") if now[name] is not None}
    return {**now, **opened}


def feature_of(image):
    """Return the feature [6] that tiny_backbone.tflite gives for an image, from its definition: means of halves."""
    halves = [image[:, : image.shape[1] // 2], image[:, image.shape[1] // 2 :]]
    means = np.concatenate([half.reshape(-1, 3).mean(axis=0) for half in halves])
    return (np.round(means - 128) + 128) / 255


def labels_of(steps, image):
    """Return with which slots an image stood in training batches, one entry for each row, step by step."""
    wanted = feature_of(image)
    return [
        [int(slot) for row, slot in zip(step.feature, step.label) if np.allclose(row, wanted, atol=1e-6)]
        for step in steps
    ]
