"""One of each kind that the library is open to, added by one file and one line in a table, and used by the commands.

The kinds: plasticity rule, method, data source, recipe. For a runtime of the device see tests/firmware_host.
"""

import importlib
import importlib.util
import json
import sys

import keras
import numpy as np
import pytest
from helpers.paths import ROOT

from keras_cbpnet import cli
from keras_cbpnet.export.recipes import RECIPES, Recipe
from keras_cbpnet.tables import METHODS, PATH_SOURCES, RULES
from keras_cbpnet.train import build_parser, main

pytestmark = pytest.mark.slow  # each builds or trains networks

RULE = '''
import dataclasses
from keras_cbpnet.plasticity.rule import Rule

@dataclasses.dataclass(frozen=True)
class Muted(Rule):
    """After every step the units' biases are multiplied by `kept`."""
    kept: float = 0.5

    def after_step(self, before, after, learning_rate, seed):
        return {**after, "b1": after["b1"] * self.kept}
'''
METHOD = '''
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.slda_head import SLDAHead
from keras_cbpnet.methods.slda import SLDA

class Euclidean(SLDA):
    """The class whose mean is nearest."""
    def check(self, config):
        super().check(config)
        if config.batch > 8:
            raise UserError(f"--batch {config.batch} is too many; give 8 at most")

    def head(self, config, slots):
        return SLDAHead(slots, shrinkage=1.0, name="head")
'''
SOURCE = '''
import numpy as np
from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.preprocessing import height_and_width
from keras_cbpnet.errors import UserError

def load_greys(path, image_size):
    """As many classes of plain grey images as `path` says."""
    if not path.isdigit():
        raise UserError(f"greys:{path} is not a number of classes; give greys:4")
    labels = np.repeat(np.arange(int(path)), 3)
    images = np.broadcast_to((40 * labels + 20).astype(np.uint8)[:, None, None, None], (len(labels), 16, 16, 3))
    names = tuple(f"grey {i}" for i in range(int(path)))
    return Dataset(images, labels, images, labels, names, image_size=height_and_width(image_size))
'''


@pytest.fixture
def added(tmp_path, monkeypatch):
    """added(name, text): write the module `name`, which can then be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, text: (tmp_path / f"{name}.py").write_text(text)


@pytest.fixture
def trained(stream, tmp_path, capsys):
    """Run the training command; return its run folder and metrics."""

    def trained(**changes):
        run = tmp_path / "run"
        assert cli.run(main, [*stream.arguments(**changes), "--output", str(run), "--json"]) == 0
        return run, json.loads(capsys.readouterr().out)

    return trained


def refused(arguments, capsys):
    assert cli.run(main, arguments) == 2
    return capsys.readouterr().err


def help_of(option):
    return next(action.help for action in build_parser()._actions if action.dest == option)


def test_a_rule(added, trained, stream, monkeypatch, capsys):
    added("muted_rule", RULE)
    monkeypatch.setitem(RULES.places, "muted", "muted_rule:Muted")
    run, _ = trained(plasticity="muted:kept=0", prompts=False)
    state = {name: np.asarray(value) for name, value in keras.models.load_model(run / "model.keras").head.state.items()}
    assert np.abs(state["w1"]).max() > 0 < np.abs(state["m_b1"]).max()
    np.testing.assert_array_equal(state["b1"], 0)
    assert ", muted" in help_of("plasticity")
    arguments = [*stream.arguments(plasticity="muted:kept=-1"), "--output", str(run.parent / "new")]
    assert "kept must be from 0 on, got -1" in refused(arguments, capsys)
    assert not RULES["muted"].on_device


def test_a_method(added, trained, stream, monkeypatch, capsys):
    added("euclidean_method", METHOD)
    monkeypatch.setitem(METHODS.places, "euclidean", "euclidean_method:Euclidean")
    run, metrics = trained(method="euclidean")
    assert keras.models.load_model(run / "model.keras").head.shrinkage == 1.0
    assert metrics["average_accuracy"] > 0.5
    arguments = [*stream.arguments(method="euclidean", batch=9), "--output", str(run.parent / "new")]
    assert "--batch 9 is too many; give 8 at most" in refused(arguments, capsys)
    arguments = [*stream.arguments(method="euclidean", plasticity="l2"), "--output", str(run.parent / "new")]
    assert "--plasticity l2 is for --method cbpnet and foster, not euclidean" in refused(arguments, capsys)


def test_a_data_source_and_a_recipe(added, trained, stream, monkeypatch, capsys):
    added("grey_source", SOURCE)
    monkeypatch.setitem(PATH_SOURCES.places, "greys", "grey_source:load_greys")
    run, metrics = trained(dataset="greys:4", method="ncm")
    assert sorted(metrics["classes"]) == ["grey 0", "grey 1", "grey 2", "grey 3"]
    assert "greys:PATH" in help_of("dataset")
    arguments = [*stream.arguments(dataset="greys:four"), "--output", str(run.parent / "new")]
    assert "greys:four is not a number of classes; give greys:4" in refused(arguments, capsys)

    monkeypatch.setitem(RECIPES, "plain", Recipe("a test's own", quantized_weights=False, quantized_activations=False))
    spec = importlib.util.spec_from_file_location("convert", ROOT / "tflite" / "convert.py")
    convert = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # the script takes the first place for the project's root
    spec.loader.exec_module(convert)
    assert "plain, a test's own" in " ".join(convert.build_parser().format_help().split())
    assert cli.run(convert.main, [str(run), "--recipe", "plain", "--json"]) == 0
    bundle = run.with_name("run.bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["recipe"], manifest["quantization"]["weights"]) == ("plain", "float32")
