"""Every method through the one trainer: what it trains and what not, going on after a kill, saving."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny_stream

from keras_cbpnet.data import make_stream, open_dataset
from keras_cbpnet.layers.klda_head import KLDAHead
from keras_cbpnet.layers.ranpac_head import RanPACHead
from keras_cbpnet.methods.build import build_model
from keras_cbpnet.tables import METHODS
from keras_cbpnet.training.trainer import train

# Dimensions: T tasks, N images, C class slots.
T, C = 2, 16
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Even though the")]  # tf.data is never eager
DUAL = ("general", "expert", "key")
PROMPTED = {"cbpnet": DUAL, "dualprompt": DUAL, "l2p": ("prompt", "key")}


class Trained:
    """A method's run, what a kill after its first task leaves, and the same run taken up from there."""

    def __init__(self, method, stream, folder):
        self.method, self.config = method, stream.config(method=method, learning_rate=5e-3, prompts=method == "cbpnet")
        self.run, self.again = folder / "run", folder / "again"
        copying = tiny_stream.copied_at("task 1/2:", self.run, self.again)
        self.metrics = train(self.config, self.run, copying)
        self.model = keras.models.load_model(self.run / "model.keras")
        self.last = values(self.model)
        keras.utils.set_random_seed(self.config.seed)
        self.built = build_model(self.config, 4)
        self.start = values(self.built)
        self.built.load_weights(self.again / "checkpoint-0001" / "model.keras")
        self.first = values(self.built)
        train(self.config, self.again)
        self.built.load_weights(self.again / "model.keras")
        self.taken_up = values(self.built)
        data = open_dataset(self.config.dataset, 16)
        self.tasks = make_stream("class", data, T, self.config.seed)
        self.images = np.concatenate([task.x_test for task in self.tasks])
        self.logits = np.asarray(self.model(self.images))


def values(model):
    """Every variable below backbone, prompts and head by its path there."""
    layers = {"backbone": model.backbone, "prompts": model.prompts, "head": model.head}
    found = {}
    for name, layer in layers.items():
        for variable in layer.variables:
            path = variable.path.partition(f"{name}/")[2]
            assert (name, path) not in found
            found[name, path] = np.array(variable.numpy())
    return found


@pytest.fixture(scope="module")
def stream(tmp_path_factory, tiny_backbone):
    """Functions run eagerly: with so few steps that is faster than tracing them."""
    tf.config.run_functions_eagerly(True)
    with tiny_stream.opened(tmp_path_factory.mktemp("stream"), tiny_backbone) as stream:
        yield stream
    tf.config.run_functions_eagerly(False)


LATER = (
    "dualprompt",
    "l2p",
    "finetune",
    "ncm",
    "klda",
    "ranpac",
    "foster",
)  # what they share with the others is tested there
PARAMS = [pytest.param(method, marks=pytest.mark.slow) if method in LATER else method for method in METHODS]


@pytest.fixture(scope="module", params=PARAMS)
def trained(request, stream, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, kind in (("ranpac", RanPACHead), ("klda", KLDAHead)):
            small = lambda config, slots, kind=kind: kind(slots, projected=30, name="head")  # noqa: E731
            patch.setattr(METHODS[name], "head", staticmethod(small))
        patch.setattr("keras_cbpnet.training.trainer.write_report", lambda *_: None)  # its plots take long
        yield Trained(request.param, stream, tmp_path_factory.mktemp(request.param))


# The table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_names_its_source_and_its_deviations(method):
    text = METHODS[method].__doc__
    assert "Source: " in text
    assert "Deviations: " in text


# Training -------------------------------------------------------------------------------------------------------------


def test_the_backbone_stays_bit_by_bit(trained):
    parts = [path for path in trained.start if path[0] == "backbone"]
    assert len(parts) == 68  # class token, positions and two convolutions 6, five blocks 12 each, the last norm 2
    for path in parts:
        np.testing.assert_array_equal(trained.last[path], trained.start[path], err_msg=str(path))


def test_the_prompts_train_and_nothing_else(trained):
    names = PROMPTED.get(trained.method, ())
    assert {variable.name for variable in trained.model.trainable_variables} == set(names)
    for name in names:
        moved = np.abs(trained.last["prompts", name] - trained.start["prompts", name])
        assert moved.max() > 1e-4, name
    if "general" not in names:
        return
    general = np.abs(trained.last["prompts", "general"] - trained.first["prompts", "general"])
    assert general.reshape(len(general), -1).max(axis=1).min() > 1e-4  # keys and values, in the second task too
    for name in ("expert", "key"):
        first, last, start = (state["prompts", name] for state in (trained.first, trained.last, trained.start))
        np.testing.assert_array_equal(last[0], first[0])  # the first task's
        np.testing.assert_array_equal(first[1], start[1])
        assert np.abs(first[0] - start[0]).max() > 1e-4
    # The second expert starts from the first and is trained.
    assert np.abs(trained.last["prompts", "expert"][1] - trained.first["prompts", "expert"][0]).max() > 1e-4


def test_what_of_the_head_is_trained(trained):
    """Of a linear head the classifier alone, of nearest class means nothing, otherwise the block or the sums."""
    classifier = {"w3", "b3"}
    expected = {
        "cbpnet": {"w1", "b1", "w2", "b2"},
        "bank": set(),
        "dualprompt": classifier,
        "l2p": classifier,
        "finetune": classifier,
        "ncm": set(),
        "slda": {"kernel", "bias"},
        "ranpac": {"kernel", "gram", "target"},
        "klda": {"kernel", "bias", "mean", "count", "scatter"},
        "foster": {"w1", "b1", "w2", "b2", *classifier},
    }
    weights = {"w1", "b1", "w2", "b2", "w3", "b3", "kernel", "bias", "projection", "gram", "target"}
    weights |= {"phase", "gamma", "mean", "count", "scatter"}
    moved = {
        name
        for part, name in trained.last
        if part == "head" and name in weights
        if not np.array_equal(trained.last[part, name], trained.first[part, name])
    }
    assert moved == expected[trained.method]
    if trained.method in ("dualprompt", "l2p", "finetune"):
        assert np.all(trained.last["head", "w2"] == 0)  # the block adds nothing
        # Two tasks of four or eight steps, but the optimizer is made anew between them.
        assert trained.last["head", "step"] == trained.first["head", "step"] > 0


def test_it_learns(trained):
    R = trained.metrics["accuracy_matrix"]
    assert [R[0][1], len(R)] == [None, T]
    assert R[0][0] > 0.6  # chance: 0.5
    assert R[1][1] > 0.25 or trained.method in ("finetune", "dualprompt", "l2p")  # of which one task may hide another
    assert trained.metrics["final"]["trained"] == R[-1]


def test_a_killed_run_ends_as_if_it_had_not_been(trained):
    assert json.loads((trained.again / "metrics.json").read_text()) == trained.metrics
    assert (trained.again / "metrics.json").read_bytes() == (trained.run / "metrics.json").read_bytes()
    assert (trained.again / "log.csv").read_bytes() == (trained.run / "log.csv").read_bytes()
    assert {path.name for path in trained.again.iterdir()} == {path.name for path in trained.run.iterdir()}
    for path, value in trained.taken_up.items():
        np.testing.assert_array_equal(value, trained.last[path], err_msg=str(path))


# The model ------------------------------------------------------------------------------------------------------------


def test_each_image_counts_on_its_own(trained):
    for i in range(0, len(trained.images), 7):
        alone = np.asarray(trained.model(trained.images[i : i + 1]))[0, :4]
        np.testing.assert_allclose(alone, trained.logits[i, :4], rtol=1e-4, atol=1e-3)


def test_classes_not_seen_have_no_chance(trained):
    assert trained.logits.shape == (20, C)
    assert np.all(trained.logits[:, 4:] == -1e9)
    assert np.abs(trained.logits[:, :4]).max() < 1e4
    class_mask = next(variable for variable in trained.built.head.variables if variable.name == "class_mask")
    seen = np.array(class_mask)
    class_mask.assign(np.eye(C)[0])
    assert np.all(np.asarray(trained.built(trained.images[:2]))[:, 1:] == -1e9)
    class_mask.assign(seen)


def test_a_reloaded_model_predicts_what_the_metrics_say(trained):
    found = [np.mean(trained.model(task.x_test).numpy().argmax(axis=1) == task.y_test) for task in trained.tasks]
    assert found == pytest.approx(trained.metrics["accuracy_matrix"][-1], abs=1e-9)
    np.testing.assert_array_equal(trained.built(trained.images), trained.logits)
