"""What the tests of heads share: features of classes, in tasks."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def data():
    """Features and slots of three tasks of two classes, correlated, not centred, of different sizes."""
    rng, d = np.random.default_rng(0), 6
    label = rng.choice(6, 150, p=[0.1, 0.2, 0.3, 0.1, 0.2, 0.1]).astype(np.int32)
    mixing = rng.normal(size=(d, d))
    feature = 3 + 1.5 * rng.normal(size=(6, d))[label] + rng.normal(size=(150, d)) @ mixing
    return feature.astype(np.float32), label


@pytest.fixture(scope="module")
def tasks(data):
    feature, label = data
    return [(feature[label // 2 == task], label[label // 2 == task]) for task in range(3)]
