"""scikit-learn's verbs for a bundle and what is learned with it; scikit-learn itself is not needed.

Dimensions: N images, C classes.
"""

from __future__ import annotations

import importlib
import inspect
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.device import DEFAULT_EPOCHS, Device
from firmware_host.engines.protocol import Array
from firmware_host.images import ImageLike
from firmware_host.shared.names import known_name

__all__ = ["DeviceClassifier"]

Images = Union[Sequence[ImageLike], Array]


class DeviceClassifier:
    """A classifier of images that scikit-learn's tools take: cross-validation, pipelines, scorers.

        classifier = DeviceClassifier("kitchen").partial_fit(images, labels)
        classifier.predict(images)

    Images are paths, or uint8 RGB arrays [h, w, 3] of any size; together a list or an array [N, h, w, 3]. Without `fit`
    and `partial_fit` it predicts what the bundle and its state know. Nothing is written: `device_.save()` saves what
    `partial_fit` learned; what `fit` learned is kept by `device_.knowledge.export()` alone.

    Args:
        bundle: the folder that `keras-cbpnet convert` wrote.
        state: the folder of the learned state, which `partial_fit` goes on from; None: beside the bundle.
        runtime: as of `Device.open`.
        threads: as of `Device.open`.
        seed: of the random numbers in learning; None: those of the state go on, and `fit` begins with 0.
        replay: as of `Device.learn`.
        epochs: as of `Device.learn`.
        learning_rate: as of `Device.learn`.

    Attributes:
        classes_: the labels of all classes known, sorted, [C]; of the type they were taught with, else their names.
        device_: the `Device`.
    """

    _estimator_type = "classifier"

    def __init__(
        self,
        bundle: Union[str, Path],
        state: Union[str, Path, None] = None,
        runtime: str = "auto",
        threads: int = 1,
        seed: Optional[int] = None,
        replay: str = "statistics",
        epochs: int = DEFAULT_EPOCHS,
        learning_rate: Optional[float] = None,
    ) -> None:
        self.bundle = bundle
        self.state = state
        self.runtime = runtime
        self.threads = threads
        self.seed = seed
        self.replay = replay
        self.epochs = epochs
        self.learning_rate = learning_rate

    def fit(self, X: Images, y: Sequence[Any]) -> DeviceClassifier:
        """Begin again from the bundle alone and learn images with their labels; return itself.

        Raises:
            DeviceError: an image or a label cannot be used, or there are more classes than slots.
        """
        self._begin()
        return self._learn(X, y)

    def partial_fit(self, X: Images, y: Sequence[Any], classes: Optional[Sequence[Any]] = None) -> DeviceClassifier:
        """Learn more images with their labels; return itself.

        Args:
            X: N images.
            y: [N], a label each.
            classes: labels that are known from now on, as scikit-learn's incremental classifiers take them with their
                first images; None: a new label becomes a class when its first image comes.

        Raises:
            DeviceError: as `fit`, or the state folder is in use.
        """
        self._open()
        for label in [] if classes is None else _labels(classes):
            if self._name(label) not in self.device_.classes:
                self.device_.add_class(self._name(label))
        return self._learn(X, y)

    def predict(self, X: Images) -> Array:
        """Return the likeliest label of each image, [N]."""
        chances = self.predict_proba(X)
        labels: Array = self.classes_[np.argmax(chances, axis=1)]
        return labels

    def predict_proba(self, X: Images) -> Array:
        """Return the probability of each class for each image, float64 [N, C] in the order of `classes_`."""
        device = self._open()
        names = [self._name(label) for label in self.classes_.tolist()]
        found = [each.probabilities for each in device.look_many(self._images(X))]
        return np.array([[each[name] for name in names] for each in found]).reshape(-1, len(names))

    def score(self, X: Images, y: Sequence[Any], sample_weight: Optional[Sequence[float]] = None) -> float:
        """Return the share of the images whose label is found, 0..1; each counts by its `sample_weight`."""
        right = np.array(self.predict(X) == np.array(_labels(y)))
        return float(np.average(right, weights=sample_weight))

    @property
    def classes_(self) -> Array:
        """The labels of all classes known, sorted, [C]."""
        taught = getattr(self, "_taught", {})
        labels = [taught.get(name, name) for name in self._open().classes]
        if len({type(label) for label in labels}) > 1:  # numbers beside the names that came with the bundle
            labels = [str(label) for label in labels]
        return np.array(sorted(labels))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name; `deep` changes nothing, none of them is an estimator."""
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self, **params: Any) -> DeviceClassifier:
        """Set constructor's arguments by name and return itself; raises ValueError for a name that is none of them."""
        for name, value in params.items():
            if name not in self._parameters():
                known = ", ".join(self._parameters())
                raise DeviceError(f"parameter {name!r} is unknown: use one of {known}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        given = inspect.signature(type(self).__init__).parameters
        shown = [f"{name}={value!r}" for name, value in self.get_params().items() if value != given[name].default]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags; only scikit-learn asks for them."""
        sklearn = importlib.import_module("sklearn.utils")
        return sklearn.Tags(
            estimator_type="classifier",
            target_tags=sklearn.TargetTags(required=True),
            classifier_tags=sklearn.ClassifierTags(),
            input_tags=sklearn.InputTags(two_d_array=False, three_d_array=True),
            requires_fit=False,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: what was learned, but no interpreter and no lock."""
        content = {name: value for name, value in vars(self).items() if name not in ("device_", "_scratch")}
        if hasattr(self, "device_"):
            content["_knowledge"] = self.device_.knowledge.export()
        return content

    def __setstate__(self, content: dict[str, Any]) -> None:
        vars(self).update(content)
        knowledge = vars(self).pop("_knowledge", None)
        if knowledge is not None:  # apart from the state folder, which belongs to another process
            self._begin(keep=True)
            self.device_.knowledge.restore(knowledge)

    def _begin(self, keep: bool = False) -> None:
        """Open the bundle alone, with a state folder that is removed with this object; `keep` the labels."""
        scratch = tempfile.TemporaryDirectory(prefix="cbpnet-")
        device = Device.open(self.bundle, scratch.name, self.runtime, self.threads, self.seed)
        self._scratch, self.device_ = scratch, device
        if not keep:
            self._taught: dict[str, Any] = {}

    def _open(self) -> Device:
        if not hasattr(self, "device_"):
            self.device_ = Device.open(self.bundle, self.state, self.runtime, self.threads, self.seed)
            self._taught = {}
        return self.device_

    def _learn(self, X: Images, y: Sequence[Any]) -> DeviceClassifier:
        names = [self._name(label) for label in _labels(y)]
        self.device_.learn(self._images(X), names, self.replay, self.epochs, self.learning_rate)
        return self

    def _name(self, label: Any) -> str:
        """Return the name of a label's class on the device, and remember the label."""
        name = known_name(str(label), self.device_.classes)
        self._taught.setdefault(name, label)
        return name

    def _images(self, X: Images) -> list[ImageLike]:
        """Return the images one by one."""
        return list(X)

    def _parameters(self) -> list[str]:
        return [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]


def _labels(y: Optional[Iterable[Any]]) -> list[Any]:
    """Return labels, [N] or a column [N, 1], as plain Python values.

    Raises:
        DeviceError: they have another shape, or one of them names no class.
    """
    if y is None:
        raise DeviceError("DeviceClassifier requires y to be passed, but the target y is None: give a label an image")
    labels = np.asarray(y)
    if labels.ndim != 1 and labels.shape[1:] != (1,):
        raise DeviceError(f"labels have shape {list(labels.shape)}: give [N], a label for each image")
    found: list[Any] = labels.ravel().tolist()
    for label in found:
        if isinstance(label, float) and not label.is_integer():  # nor infinite, nor not a number
            raise DeviceError(
                f"Unknown label type: continuous, such as {label}: give names of classes or whole numbers"
            )
    return found
