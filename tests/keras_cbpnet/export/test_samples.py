"""The images a conversion is checked on: a share of every task's that the work allows, each with its slot."""

import numpy as np
import pytest

from keras_cbpnet.data import make_stream, open_dataset
from keras_cbpnet.export import samples


@pytest.fixture(scope="module")
def tasks():
    return make_stream("class", open_dataset("digits", 32), 5, 3)


def test_all_images_where_they_cost_little(tasks):
    images, slots = samples.held_out(tasks, 0, multiply_adds=1000)
    assert len(images) == len(slots) == sum(len(task.y_test) for task in tasks)
    assert images.dtype == np.uint8


def test_a_large_backbone_is_checked_on_fewer(tasks):
    images, slots = samples.held_out(tasks, 0, multiply_adds=int(samples.WORK) // 60)
    assert len(images) == len(slots) == 60
    for task in tasks:
        first = min(task.slots)
        (of_class,) = np.nonzero(slots == first)
        known = {image.tobytes() for image in task.x_test[task.y_test == first]}
        assert {image.tobytes() for image in images[of_class]} <= known
    again, same = samples.held_out(tasks, 0, multiply_adds=int(samples.WORK) // 60)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(slots, same)
    assert len(samples.held_out(tasks, 0, multiply_adds=int(2 * samples.WORK))[0]) == 1


def test_the_images_of_the_converter_are_of_the_training_part(tasks):
    images = samples.representative(tasks, 1)
    assert len(images) == samples.REPRESENTATIVE
    known = {image.tobytes() for task in tasks for image in task.x_train}
    assert {image.tobytes() for image in images} <= known
