"""Features of training images as other cameras might take them: of which images, how many, always the same."""

import numpy as np
import pytest

from keras_cbpnet.data import make_stream, open_dataset
from keras_cbpnet.data.views import camera_views
from keras_cbpnet.methods.build import build_model
from keras_cbpnet.training.features import tasks as task_features
from keras_cbpnet.training.trainer import train

pytestmark = pytest.mark.slow  # each builds or trains networks


@pytest.fixture(scope="module")
def task(stream):
    data = open_dataset(stream.config().dataset, 16)
    return make_stream("class", data, 2, 3)[1]


@pytest.fixture(scope="module")
def features(stream):
    return task_features.TaskFeatures(build_model(stream.config(), 4), None)


def test_each_row_is_the_feature_of_a_view_of_its_image(features, task):
    found, rows = features.views(task, 2, seed=7)
    assert rows.tolist() == [*range(16), *range(16)]
    for place in (0, 5, 16 + 5):
        number = int(task.train_rows[rows[place]])
        image = task.data.images("train", np.array([number]))
        view = camera_views(image, 7 + place // 16, number)
        expected = np.asarray(features.model.features(view.astype(np.float32))[0])
        np.testing.assert_allclose(found[place], expected[0], atol=1e-4)
    again, _ = features.views(task, 2, seed=7)
    np.testing.assert_array_equal(found, again)
    assert np.abs(features.views(task, 1, seed=8)[0] - found[:16]).max() > 1e-3


def test_of_a_class_of_many_images_some_are_enough(features, task, monkeypatch):
    monkeypatch.setattr(task_features, "VIEWED", 3)
    _, rows = features.views(task, 1, seed=7)
    assert np.bincount(task.y_train[rows])[list(task.slots)].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [({}, 2), ({"views": 0}, 0), ({"bank": False}, 0), ({"method": "bank"}, 2), ({"method": "ncm"}, 0)],
)
def test_a_run_asks_for_views_where_there_is_a_bank(stream, tmp_path, monkeypatch, changes, asked):
    calls = []
    views = task_features.TaskFeatures.views

    def counted(self, task, count, seed):
        calls.append(task.index)
        return views(self, task, count, seed)

    monkeypatch.setattr(task_features.TaskFeatures, "views", counted)
    monkeypatch.setattr("keras_cbpnet.training.trainer.write_report", lambda *_: None)
    train(stream.config(**changes), tmp_path / "run")
    assert len(calls) == asked
