"""Bad input to training and conversion: exit code 2, one line, nothing on disk changed."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

from keras_cbpnet import cli

TRAIN = {  # arguments (after --output new), what the line says
    "tasks that do not divide": (["--tasks", "4"], "6 classes cannot be split into 4 equal tasks"),
    "missing weights": (["--weights", "none.npz"], "no weights file 'none.npz'"),
    "no weights": (
        ["--weights", "text.npz"],
        "cannot read weights file text.npz: not a .npz or .safetensors file, or damaged",
    ),
    "weights that are no address": (["--weights", "hf:deit"], "'hf:deit' is not an address on the hub; give hf:OWNER/"),
    "unknown data set": (["--dataset", "letters"], "unknown data set 'letters'; choose one of digits"),
    "missing npz": (["--dataset", "npz:none.npz"], "no file 'none.npz'"),
    "no npz": (["--dataset", "npz:text.npz"], "data text.npz is not a readable .npz ("),
    "missing folder": (["--dataset", "folder:none"], "no folder 'none'"),
    "folder without classes": (["--dataset", "folder:empty"], "folder empty has no classes"),
    "class without images": (["--dataset", "folder:hollow"], "class folder hollow/one has no images"),
    "no image": (
        ["--dataset", "folder:texts", "--tasks", "1", "--device-tasks", "0"],
        "texts/one/1.png is not an image",
    ),
    "too few slots": (["--slots", "5"], "--slots 5 is too few for the 6 classes"),
    "device tasks": (["--device-tasks", "3"], "--device-tasks must be from 0 to 2, got 3"),
    "negative device tasks": (["--device-tasks", "-1"], "--device-tasks must be from 0 to 2, got -1"),
    "tasks": (["--tasks", "0", "--device-tasks", "0"], "--tasks must be at least 1, got 0"),
    "batch": (["--batch", "0"], "--batch must be at least 1, got 0"),
    "units": (["--units", "0"], "--units must be at least 1, got 0"),
    "seed": (["--seed", "-1"], "seed is -1: use a whole number from 0 to"),
    "rates": (["--learning-rate", "nan"], "--learning-rate must be above 0, got nan"),
    "decay": (["--decay-rate", "1"], "--decay-rate must be from 0 to below 1, got 1.0"),
    "negative replacement": (["--replacement-rate", "-1"], "replacement_rate must be from 0 on"),
    "negative maturity": (["--maturity-threshold", "-5"], "--maturity-threshold must be at least 0"),
    "replacement": (["--replacement-rate", "0.1"], "replacement_rate * units must be at most 1"),
    "block": (["--block", "linear"], "argument --block: invalid choice: 'linear'"),
    "no number": (["--epochs", "two"], "argument --epochs: invalid int value: 'two'"),
    "unknown option": (["--epoch", "2"], "unrecognized arguments: --epoch"),
    "finished run": (["--output", "run"], "run holds a finished run; choose another --output"),
    "finished run, other configuration": (["--seed", "5", "--output", "run"], "run holds a run of another config"),
    "killed run, other configuration": (["--seed", "5", "--output", "killed"], "killed holds a run of another config"),
    "no run folder": (["--output", "texts"], "texts exists and is not a run folder; choose another --output"),
    "a file": (["--output", "text.npz"], "text.npz"),
    "a file on the way": (["--output", "text.npz/new"], "text.npz"),
}

CONVERT = {
    "unfinished run": (["killed"], "killed is not finished; run its training again"),
    "no run": (["texts"], "texts is not a run folder: it has no config.json"),
    "missing run": (["none"], "none is not a run folder: it has no config.json"),
    "a file": (["text.npz"], "text.npz is not a run folder"),
    "missing model": (["modelless"], "modelless/model.keras is missing or damaged"),
    "output exists": (["run", "--output", "texts"], "texts exists; choose another --output or give --overwrite"),
    "bundle exists": (["run"], "run.bundle exists; choose another --output or give --overwrite"),
    "overwriting what is not a bundle": (["run", "--output", "texts", "--overwrite"], "texts is not a bundle"),
    "damaged configuration": (["damaged"], "damaged/config.json is damaged"),
    "recipe": (["run", "--recipe", "int4"], "argument --recipe: invalid choice: 'int4'"),
    "optimizer": (["run", "--optimizer", "sgd"], "--optimizer sgd is for --target micro"),
    "package": (["run", "--package", "arduino"], "--package arduino is for --target micro"),
    "unknown package": (["run", "--package", "mbed"], "argument --package: invalid choice: 'mbed'"),
    "no argument": ([], "the following arguments are required: RUN"),
}


@pytest.fixture
def here(road, tmp_path, monkeypatch):
    """The current folder, with what the cases above name."""
    monkeypatch.chdir(tmp_path)
    for run in (road.run, road.killed):
        shutil.copytree(run, tmp_path / run.name)
    shutil.copytree(road.run, tmp_path / "modelless", ignore=shutil.ignore_patterns("model.keras"))
    for folder in ("empty", "hollow/one", "texts/one", "damaged", "run.bundle"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("text.npz", "texts/one/1.png", "texts/one/2.png"):
        (tmp_path / file).write_text("this is text\n")
    (tmp_path / "damaged" / "config.json").write_text('{"tasks": ')
    (tmp_path / "run.bundle" / "manifest.json").write_text("{}\n")
    return tmp_path


@pytest.fixture
def refuse(here, tree, capsys):
    """Run a command line that must fail; return the one line it prints."""

    def refuse(main, arguments):
        before = tree(here)
        try:
            code = cli.run(main, arguments)
        except SystemExit as stop:  # of the argument parser
            code = stop.code
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        found, _, line = err.rpartition("error: ")  # what was found in the data may stand before it
        assert found == "" or (found.startswith("training data: ") and found.count("\n") == 1)
        assert line.count("\n") == 1
        assert tree(here) == before
        return err

    return refuse


@pytest.mark.parametrize("case", TRAIN)
def test_train(refuse, road, case):
    from keras_cbpnet.train import main

    arguments, line = TRAIN[case]
    assert line in refuse(main, [*road.arguments, "--output", "new", *arguments])


@pytest.mark.parametrize("case", CONVERT)
def test_convert(refuse, convert, case):
    arguments, line = CONVERT[case]
    assert line in refuse(convert.main, arguments)


def test_convert_when_the_data_or_a_part_of_the_run_is_gone(refuse, convert, here, road):
    gone = here / "gone.npz"
    whole = {name: (here / "run" / name).read_text() for name in ("config.json", "data.json")}
    for name, text in whole.items():
        (here / "run" / name).write_text(text.replace(str(road.npz), str(gone)))
    line = f"the data that run was trained on, npz:{gone}, are not there; put them back"
    assert line in refuse(convert.main, ["run", "--output", "new"])


@pytest.mark.slow
def test_a_process_of_its_own_says_no_more(here, tree):
    before = tree(here)
    command = [sys.executable, "-m", "keras_cbpnet.train", "--dataset", "npz:none.npz", "--output", "new"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no file 'none.npz'; give")
    assert done.stderr.count("\n") == 1
    assert tree(here) == before


def test_train_on_classes_with_too_few_images(refuse, road, here):
    from keras_cbpnet.train import main

    for name in ("one", "two"):
        (here / "single" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(here / "single" / name / "1.png")
    line = refuse(main, [*road.arguments, "--dataset", "folder:single", "--output", "new"])
    assert "class 'one' has 1 image(s)" in line
