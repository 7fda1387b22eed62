"""scikit-learn's verbs on a device: what they do with images, and scikit-learn's own checks as far as they apply."""

import importlib
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from helpers.paths import ROOT

from firmware_host import Device, DeviceClassifier, DeviceError

# Of scikit-learn's checks, those that do not apply; all others must pass.
NOT_APPLICABLE = {
    "check_supervised_y_2d": "a column of labels is taken as it is meant; scikit-learn's warning would need it here",
}
NOT_RUN = {  # by scikit-learn itself: these packages or settings are none of ours
    "check_array_api_input": "SCIPY_ARRAY_API is not set",
    "check_classifier_data_not_an_array": "pandas is not installed",
}


def validated(estimator, X, **options):
    return importlib.import_module("sklearn.utils.validation").validate_data(estimator, X, **options)


class OnRows(DeviceClassifier):
    """Paints an image from a row of numbers, as these checks give them: colours of its left and right half."""

    def fit(self, X, y):
        return super().fit(validated(self, X), y)

    def partial_fit(self, X, y, classes=None):
        return super().partial_fit(validated(self, X, reset=not hasattr(self, "n_features_in_")), y, classes)

    def _images(self, X):
        rows = 90 * np.tanh(validated(self, X, reset=False) / 3)  # (N, f)
        halves = np.full((len(rows), 6), 128.0)
        for column in range(rows.shape[1]):
            halves[:, column % 6] += rows[:, column]
        pixels = np.clip(halves, 0, 255).astype(np.uint8).reshape(-1, 1, 2, 3)
        return list(pixels.repeat(4, axis=2).repeat(8, axis=1))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@pytest.fixture
def classifier(bundle):
    return DeviceClassifier(bundle, runtime="numpy", epochs=2)


def test_it_goes_on_from_what_the_device_knows(make, classifier, bundle):
    images, labels = make.images(["red", "green"], 3)
    assert classifier.classes_.tolist() == ["green", "red"]  # before it learned anything
    assert classifier.predict(images).tolist() == labels
    assert classifier.partial_fit(*make.images(["blue"], 5)) is classifier
    assert classifier.classes_.tolist() == ["blue", "green", "red"]
    images, labels = make.images(["blue", "red"], 3, seed=9)
    chances = classifier.predict_proba(np.stack(images))
    assert chances.shape == (6, 3)
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-6)
    assert classifier.classes_[chances.argmax(axis=1)].tolist() == labels
    with Device.open(bundle, runtime="numpy") as device:
        found = device.predict(images[0])
    assert found.label != "blue"  # nothing was saved
    classifier.device_.save()
    classifier.device_.close()
    with Device.open(bundle, runtime="numpy") as device:
        assert list(device.predict(images[0]).probabilities.values()) == pytest.approx(chances[0][[2, 1, 0]])


def test_fit_begins_again_from_the_bundle(make, classifier):
    blue, red = make.images(["blue"], 5), make.images(["red", "green"], 2)
    classifier.partial_fit(*blue)
    classifier.fit(*red)
    assert classifier.classes_.tolist() == ["green", "red"]
    first = classifier.predict_proba(red[0])
    assert np.array_equal(classifier.fit(*red).predict_proba(red[0]), first)
    assert classifier.partial_fit(*blue, classes=["blue", "white"]).classes_.tolist() == [
        "blue",
        "green",
        "red",
        "white",
    ]


def test_score_and_labels_that_are_numbers(make, tmp_path):
    path = make.write_bundle(tmp_path / "empty", known=())
    images, names = make.images(["red", "green", "blue"], 4)
    labels = np.array([["red", "green", "blue"].index(name) + 10 for name in names])
    classifier = DeviceClassifier(path, runtime="numpy", epochs=3)
    with pytest.raises(DeviceError, match="knows no class yet"):
        classifier.predict(images)
    classifier.fit(images, labels)
    assert classifier.classes_.tolist() == [10, 11, 12]
    assert classifier.predict(images).dtype.kind == "i"
    assert classifier.score(images, labels) == 1.0
    wrong = labels.copy()
    wrong[:3] = 12
    assert classifier.score(images, wrong) == 9 / 12
    assert classifier.score(images, wrong, sample_weight=[0, 0, 0] + [1] * 9) == 1.0
    classifier.partial_fit(images[:1], ["grey"])  # beside numbers: all are text
    assert classifier.classes_.tolist() == ["10", "11", "12", "grey"]


@pytest.mark.slow
def test_predicting_changes_nothing(make, tmp_path):
    classifier = DeviceClassifier(make.write_bundle(tmp_path / "b", bank=True), runtime="numpy")
    assert classifier.classes_.tolist() == ["green", "red"]
    for image, label in zip(*make.images(["red", "green"], 40)):
        classifier.device_.teach(image, label)  # until it tells strangers
    strangers = make.images(["white"], 9, seed=3)[0]
    classifier.predict(strangers)
    assert classifier.device_.predict(strangers[0]).alike == 1  # the first that was counted


def test_parameters_and_copies(make, classifier, bundle):
    assert classifier.get_params()["epochs"] == 2
    assert classifier.set_params(epochs=1, seed=3) is classifier
    assert repr(classifier) == f"DeviceClassifier(bundle={bundle!r}, runtime='numpy', seed=3, epochs=1)"
    with pytest.raises(DeviceError, match="parameter 'epoch' is unknown: use one of bundle, state, "):
        classifier.set_params(epoch=1)
    images, labels = make.images(["blue", "red"], 3)
    classifier.fit(images, labels)
    copy = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(copy.predict_proba(images), classifier.predict_proba(images))
    untaught = pickle.loads(pickle.dumps(DeviceClassifier(bundle, runtime="numpy")))
    assert untaught.predict(images[3:]).tolist() == ["red"] * 3
    copy.partial_fit(images, labels)  # apart from the first
    assert not np.array_equal(copy.predict_proba(images), classifier.predict_proba(images))


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (None, "requires y to be passed"),
        ([0.5, 1.0], "Unknown label type: continuous, such as 0.5"),
        ([[1, 2], [3, 4]], r"labels have shape \[2, 2\]"),
        (["red"], "2 images and 1 labels"),
    ],
)
def test_bad_labels_are_one_line(make, classifier, labels, line):
    with pytest.raises(DeviceError, match=line):
        classifier.partial_fit(make.images(["red"], 2)[0], labels)


def test_it_does_not_need_scikit_learn():
    code = "import sys\nfrom firmware_host import DeviceClassifier\nprint('sklearn' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.slow
def test_scikit_learns_tools_take_it(make, bundle):
    selection = pytest.importorskip("sklearn.model_selection")
    base = pytest.importorskip("sklearn.base")
    images, labels = make.images(["red", "green", "blue"], 6)
    classifier = DeviceClassifier(str(bundle), runtime="numpy", epochs=2)
    assert base.is_classifier(classifier)
    assert base.clone(classifier).get_params() == classifier.get_params()
    found = selection.cross_val_score(classifier, np.stack(images), labels, cv=3)
    np.testing.assert_array_equal(found, [1, 1, 1])
    search = selection.GridSearchCV(classifier, {"replay": ["none", "statistics"]}, cv=2)
    assert search.fit(np.stack(images), labels).best_score_ == 1.0


@pytest.mark.slow
def test_scikit_learns_own_checks(make, tmp_path):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    path = str(make.write_bundle(tmp_path / "b", known=(), slots=12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = checks.check_estimator(
            OnRows(path, runtime="numpy", epochs=3), expected_failed_checks=NOT_APPLICABLE, on_fail=None, on_skip=None
        )
    status = {each["check_name"]: (each["status"], str(each["exception"])) for each in done}
    assert len(done) > 40
    assert {name for name, (found, _) in status.items() if found == "failed"} == set(), status
    assert {name for name, (found, _) in status.items() if found == "xfail"} == set(NOT_APPLICABLE)
    for name, (found, why) in status.items():
        assert found != "skipped" or why.startswith(NOT_RUN[name])
