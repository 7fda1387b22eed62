"""What is refused before a training, and what ends one."""

import types

import numpy as np
import pytest

from keras_cbpnet.data import Dataset
from keras_cbpnet.errors import UserError
from keras_cbpnet.training.check import check_finite, check_images


def data(images, classes=("disc", "box")):
    labels = np.arange(len(images)) % len(classes)
    return Dataset(images, labels, images, labels, tuple(classes))


def test_images_that_are_all_alike_are_refused():
    images = np.full((200, 4, 4, 3), 7, np.uint8)
    with pytest.raises(UserError, match=r"all alike \(64 of 200 were compared\); give images that show .* disc, box$"):
        check_images(data(images))
    with pytest.raises(UserError, match=r"\(4 of 4 were compared\).*a, b, c, \.\.\.$"):
        check_images(data(images[:4], "abcd"))
    images[199, 0, 0, 0] = 8
    check_images(data(images))
    check_images(data(images[:1], ("one",)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_training_that_diverged_is_one_line(value):
    weights = [np.ones(3)]
    check_finite(types.SimpleNamespace(weights=weights), types.SimpleNamespace(index=1))

    class Weight:
        path = "head/w1"

        def __array__(self, dtype=None, copy=None):
            return np.array([1, value])

    with pytest.raises(UserError, match="diverged in task 2: head/w1 is not finite; give a lower --learning-rate"):
        check_finite(types.SimpleNamespace(weights=[*weights, Weight()]), types.SimpleNamespace(index=1))
