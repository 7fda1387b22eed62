"""Passes over features are graphs where they are many: the same numbers, traced once."""

import numpy as np
import pytest

from keras_cbpnet.data import make_stream, open_dataset
from keras_cbpnet.methods.build import build_model
from keras_cbpnet.models import prompted_classifier
from keras_cbpnet.models.calibration import calibrate
from keras_cbpnet.training.features.tasks import TaskFeatures

pytestmark = pytest.mark.slow  # each builds or trains networks


@pytest.fixture(scope="module")
def task(stream):
    return make_stream("class", open_dataset(stream.config().dataset, 16), 2, 3)[0]


@pytest.fixture(scope="module")
def model(stream, task):
    """With fake quantizers and an expert prompt in use."""
    model = build_model(stream.config(qat=True, prompts=True), 4)
    images = task.x_train
    calibrate(model, model.features, images)
    model.begin_task(np.asarray(model.query(images)), task.slots)
    return model


def test_features_that_are_taken_again_are_those_of_the_operations_one_by_one(model, task, monkeypatch):
    monkeypatch.setattr(type(model.backbone), "pass_images", 5)  # the last pass is a smaller one
    once, again = TaskFeatures(model, None), TaskFeatures(model, None, again=True)
    for part in ("train", "test"):
        np.testing.assert_allclose(again(task, part), once(task, part), atol=1e-5)
        np.testing.assert_allclose(again.query(task, part), once.query(task, part), atol=1e-5)
    newest = model.prompts.newest
    np.testing.assert_allclose(again(task, "train", newest), once(task, "train", newest), atol=1e-5)
    before = again(task, "train")
    general = model.prompts.general
    value = general.numpy()
    general.assign(value + 0.5)
    moved = again(task, "train")  # traced before: what is trained is still read
    np.testing.assert_allclose(moved, once(task, "train"), atol=1e-5)
    assert np.abs(moved - before).max() > 1e-3
    general.assign(value)
    assert [each.experimental_get_tracing_count() for each in (again._selected, again._prompted)] == [1, 1]
    assert once._selected.experimental_get_tracing_count() == 0


def test_one_pass_over_many_images_is_traced(model, task, monkeypatch):
    images, calls = task.x_train, []

    def features(x):
        calls.append(type(x).__name__)
        return model.features(x)[0]

    plain = model.batched(features, images, 4)
    assert calls == ["ndarray"] * 4
    monkeypatch.setattr(prompted_classifier, "TRACED_FROM", 4)
    calls.clear()
    np.testing.assert_allclose(model.batched(features, images, 4), plain, atol=1e-5)
    assert len(calls) == 1
