"""The public Python API: what has a name in `keras_cbpnet`, and that it is what the command lines call."""

import dataclasses
import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

import keras_cbpnet
from keras_cbpnet import api
from keras_cbpnet.config import PAPER, TrainConfig
from keras_cbpnet.errors import UserError


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the trainer was asked for by each call, instead of a training."""
    calls = []

    def train(config, output, progress, board, place):
        progress("task 1/1: accuracy 1.000")
        calls.append((config, output, board))
        return {"average_accuracy": 1.0, "forgetting": 0.0, "classes": ["a", "b"]}

    monkeypatch.setattr("keras_cbpnet.api.read_inputs", lambda config, *_: config)
    monkeypatch.setattr("keras_cbpnet.training.trainer.train_on", train)
    monkeypatch.chdir(tmp_path)
    return calls


def test_every_name_is_there():
    names = {name for group in keras_cbpnet.PLACES.values() for name in group}
    assert names | {"__version__", "train", "convert"} == set(keras_cbpnet.__all__) <= set(dir(keras_cbpnet))
    for module, group in keras_cbpnet.PLACES.items():
        for name in group:
            found = getattr(keras_cbpnet, name)
            assert found is getattr(importlib.import_module(module), name)
            assert found.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'Forebone'"):
        keras_cbpnet.Forebone  # noqa: B018


SLOW = pytest.mark.slow
ORDERS = ["import keras_cbpnet.train, keras_cbpnet.convert", pytest.param("", marks=SLOW)]


@pytest.mark.parametrize("order", [*ORDERS, pytest.param("keras_cbpnet.train", marks=SLOW)])
def test_train_and_convert_are_functions_in_whatever_order_they_are_imported(order):
    code = (
        f"import inspect, sys, keras_cbpnet\n{order}\n"
        "assert callable(keras_cbpnet.train) and callable(keras_cbpnet.convert)\n"
        "from keras_cbpnet.train import main\nfrom keras_cbpnet import train, convert\n"
        "assert train.main is main\n"
        "assert 'output' in inspect.signature(train).parameters\n"
        "assert 'recipe' in inspect.signature(convert).parameters\n"
        "try:\n    train(epochs=-1)\nexcept ValueError as error:\n    print(error)\n"
        "print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["--epochs must be at least 0, got -1", "[]"], done.stderr


def test_the_command_line_asks_for_what_the_function_asks_for(asked, tmp_path, capsys):
    lines = []
    run = keras_cbpnet.train(
        output=tmp_path / "new", dataset="digits", device_tasks=1, plasticity="l2", prompts=True, seed=3,
        tensorboard=True, progress=lines.append,
    )  # fmt: skip
    words = "--dataset digits --device-tasks 1 --plasticity l2 --prompts --seed 3 --tensorboard --output"
    assert keras_cbpnet.train.main([*words.split(), str(tmp_path / "new")]) == 0
    assert asked[0] == asked[1]
    config, output, board = asked[0]
    assert config == TrainConfig(preset="vit_nano_32", device_tasks=1, plasticity="l2", prompts=True, seed=3)
    assert (output, board) == (tmp_path / "new", True)
    assert lines == ["task 1/1: accuracy 1.000"]
    assert (run.path, run.config, run.classes) == (output, config, ("a", "b"))
    assert run.metrics["average_accuracy"] == 1.0
    assert "average accuracy 1.000" in capsys.readouterr().out


def test_what_is_given_counts_before_the_preset_and_that_before_the_paper(asked):
    vit = {"preset": "vit_base_16_224", "dataset": "cifar100"}
    own = keras_cbpnet.presets.get_preset("vit_base_16_224").defaults("cifar100", "cbpnet")
    config, notes = api.plan({**vit, "paper": True})
    assert config == dataclasses.replace(TrainConfig(), **{**PAPER, **own, **vit})
    assert len(notes) == 1
    assert notes[0].startswith("defaults of vit_base_16_224: tasks 10, ")
    config, _ = api.plan({**vit, "paper": True, "tasks": 3, "bank": True, "epochs": None})
    assert (config.tasks, config.bank, config.prompts, config.epochs) == (3, True, True, 5)
    assert api.plan({"dataset": "folder:photos"}).config.preset == "vit_tiny_96"


def test_every_option_of_the_command_is_a_keyword():
    from keras_cbpnet.convert import build_parser as converts
    from keras_cbpnet.train import build_parser as trains

    known = {*inspect.signature(api.train).parameters, *api.FIELDS, *api.BESIDE} - {"settings"}
    assert {action.dest for action in trains()._actions} - {"help", "json"} == known - {"progress"}
    converting = set(inspect.signature(api.convert).parameters)
    assert {action.dest for action in converts()._actions} - {"help", "json"} == converting - {"progress"}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"epoch": 3}, r"unknown setting epoch; known settings: preset, weights, "),
        ({"epochs": "3"}, r"epochs is '3'; give a value such as 3"),
        ({"learning_rate": float("nan")}, r"--learning-rate must be above 0, got nan"),
        ({"board": "pi5"}, r"--board pi5 needs --preset auto"),
        ({"output": ""}, r"output is empty: give a path"),
    ],
)
def test_bad_settings_are_one_line(settings, line, asked):
    with pytest.raises(ValueError, match=line) as error:
        keras_cbpnet.train(**settings)
    assert "\n" not in str(error.value)
    assert asked == []


def test_bad_runs_are_one_line(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        keras_cbpnet.load_run(tmp_path)
    with pytest.raises(UserError, match=r"recipe is 'int4'; choose one of auto, mixed, int8, "):
        keras_cbpnet.convert(tmp_path, recipe="int4")
    with pytest.raises(UserError, match="is for --target micro"):
        keras_cbpnet.convert(tmp_path, optimizer="sgd")
    with pytest.raises(UserError, match="target is 'coral'"):
        keras_cbpnet.convert(tmp_path, target="coral")
    with pytest.raises(UserError, match="package is 'mbed'; choose one of None, arduino"):
        keras_cbpnet.convert(tmp_path, target="micro", package="mbed")
    with pytest.raises(UserError, match="--package arduino is for --target micro"):
        keras_cbpnet.convert(tmp_path, package="arduino")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds an unfinished run"):
        keras_cbpnet.load_run(tmp_path)
    (tmp_path / "metrics.json").write_text("[")
    with pytest.raises(UserError, match=r"metrics\.json is damaged"):
        keras_cbpnet.load_run(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match=r"model\.keras is missing or damaged"):
        _ = keras_cbpnet.load_run(tmp_path).model


@pytest.mark.slow
def test_from_images_to_predictions_in_python(tmp_path):
    options = {"method": "ncm", "preset": "vit_micro_32", "tasks": 5, "device_tasks": 2, "qat": False, "epochs": 1}
    run = keras_cbpnet.train(**options, output=tmp_path / "run")
    again = keras_cbpnet.load_run(tmp_path / "run")
    assert (again.config, again.metrics, again.classes) == (run.config, run.metrics, run.classes)
    assert len(run.classes) == 6
    bundle = keras_cbpnet.convert(again, recipe="float32")
    assert bundle.path == tmp_path / "run.bundle"
    assert bundle.classes == run.classes
    data = keras_cbpnet.load_dataset("digits", 32)
    known = [name in run.classes for name in np.array(data.class_names)[data.y_test]]
    images, names = data.x_test[known], np.array(data.class_names)[data.y_test[known]]
    found = np.asarray(run.model(images)).argmax(axis=1)
    right = np.mean(np.array(run.classes)[found] == names)
    assert right == pytest.approx(np.mean(run.metrics["accuracy_matrix"][-1][:3]), abs=0.02)
    sweep = keras_cbpnet.train(**options, seeds=[1, 2], output=tmp_path / "sweep")
    assert [each.path.name for each in sweep.runs] == ["seed-1", "seed-2"]
    assert sweep.metrics["average_accuracy"]["mean"] == pytest.approx(
        np.mean([each.metrics["average_accuracy"] for each in sweep.runs])
    )
    with pytest.raises(UserError, match="holds 2 runs"):
        _ = sweep.model
