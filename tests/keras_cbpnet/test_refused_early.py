"""What is wrong with arguments, data, runs and bundles is said before TensorFlow and Keras are imported: in 0.3 s."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from helpers.paths import ROOT, TESTS
from PIL import Image

BANKED = TESTS / "firmware_host/golden/banked/bundle_1"
HEAVY = ("keras", "tensorflow", "jax", "torch")

# Each case in one process, so that the test is quick; what one imports would be seen in all after it.
REFUSE = f"""
import contextlib, importlib, io, json, sys
from keras_cbpnet import cli
answers = []
for module, arguments in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            code = cli.run(importlib.import_module("keras_cbpnet." + module).main, arguments)
        except SystemExit as stop:
            code = stop.code
    answers.append([code, said.getvalue(), sorted({{*{HEAVY}}} & set(sys.modules))])
print(json.dumps(answers))
"""

CASES = {  # module and arguments, what the line says
    "train: option": (["train", "--epoch", "1"], "unrecognized arguments: --epoch"),
    "train: number": (["train", "--epochs", "-1"], "--epochs must be at least 0, got -1"),
    "train: choice": (["train", "--method", "x"], "invalid choice: 'x'"),
    "train: rule": (["train", "--plasticity", "l3"], "unknown plasticity rule 'l3'"),
    "train: rule of another method": (["train", "--plasticity", "l2", "--method", "ncm"], "is for --method cbpnet"),
    "train: selection": (["train", "--query-depth", "2"], "is for prompts; give --prompts too"),
    "train: block": (["train", "--replacement-rate", "0.5"], "replacement_rate * units must be at most 1"),
    "train: board": (["train", "--preset", "auto"], "--preset auto needs --board"),
    "train: data set": (["train", "--dataset", "nope"], "unknown data set 'nope'; choose one of digits"),
    "train: no npz": (["train", "--dataset", "npz:none.npz"], "no file 'none.npz'"),
    "train: bad npz": (["train", "--dataset", "npz:text.npz"], "is not a readable .npz"),
    "train: npz without arrays": (["train", "--dataset", "npz:few.npz"], "few.npz"),
    "train: no folder": (["train", "--dataset", "folder:none"], "no folder 'none'"),
    "train: empty folder": (["train", "--dataset", "folder:empty"], "folder empty has no classes"),
    "train: no image": (["train", "--dataset", "folder:texts", "--tasks", "1"], "texts/one/1.png is not an image"),
    "train: images alike": (["train", "--dataset", "folder:alike", "--tasks", "1"], "all alike"),
    "train: tasks": (["train", "--dataset", "npz:data.npz", "--tasks", "3"], "4 classes cannot be split into 3"),
    "train: device tasks": (
        ["train", "--dataset", "npz:data.npz", "--tasks", "2", "--device-tasks", "2"],
        "--device-tasks must be from 0 to 1, got 2",
    ),
    "train: slots": (
        ["train", "--dataset", "npz:data.npz", "--tasks", "2", "--slots", "3"],
        "--slots 3 is too few for the 4 classes",
    ),
    "train: weights": (["train", "--weights", "none.npz"], "no weights file 'none.npz'"),
    "train: damaged weights": (["train", "--weights", "text.npz"], "cannot read weights file text.npz"),
    "train: folder": (["train", "--dataset", "npz:data.npz", "--output", "texts"], "texts exists and is not a run"),
    "train: whitening": (["train", "--dataset", "npz:data.npz", "--tasks", "2", "--whiten", "npz:none.npz"], "no file"),
    "train: seeds": (["train", "--dataset", "nope", "--seeds", "0,1"], "unknown data set 'nope'"),
    "train: data of seeds": (["train", "--dataset", "npz:none.npz", "--seeds", "0,1"], "no file 'none.npz'"),
    "train: bundle exists": (["train", "--bundle", "texts"], "texts exists; choose another --bundle or remove it"),
    "train: bundle of a method": (["train", "--method", "klda", "--bundle", "new"], "a device cannot go on with"),
    "train: bundle of seeds": (["train", "--seeds", "0,1", "--bundle", "new"], "--bundle is for one run"),
    "convert: option": (["convert", "run", "--recipe", "int4"], "argument --recipe: invalid choice: 'int4'"),
    "convert: twice": (["convert", "run", *2 * ("--recipe", "int8")], "recipes are int8, int8; give at least one"),
    "convert: target": (["convert", "run", "--optimizer", "sgd"], "--optimizer sgd is for --target micro"),
    "convert: no run": (["convert", "none"], "none is not a run folder: it has no config.json"),
    "convert: unfinished": (["convert", "unfinished"], "unfinished is not finished; run its training again"),
    "convert: damaged": (["convert", "modelless"], "modelless/model.keras is missing or damaged"),
    "convert: output": (["convert", "run", "--output", "texts"], "texts exists; choose another --output"),
    "convert: outputs": (
        ["convert", "run", "--output", "kept", "--recipe", "int8", "--recipe", "hybrid"],
        "kept/int8 exists",
    ),
    "convert: data gone": (["convert", "gone"], "the data that gone was trained on, npz:"),
    "convert: other data": (["convert", "others"], "others was trained on: its classes were teal"),
    "convert: depth": (["convert", "run", "--depth", "9"], "9"),
    "convert: depths": (["convert", "run", "--depth", "3,4"], "the first number must be the largest"),
    "freeze: option": (["freeze", "run", "new", "--scores", "int4"], "invalid choice: 'int4'"),
    "freeze: no source": (["freeze", "none", "new"], "none is neither a bundle"),
    "freeze: output": (["freeze", str(BANKED), "texts"], "texts exists; choose another folder"),
    "freeze: size": (["freeze", str(BANKED), "new", "--input-size", "-3"], "--input-size -3 is not from 1"),
    "freeze: damaged": (["freeze", "changed", "new"], "was changed"),
    "freeze: state": (["freeze", str(BANKED), "new", "--state", "none.npz"], "does not exist"),
    "freeze: run": (["freeze", "unfinished", "new"], "unfinished is not finished"),
    "report: no source": (["report", "none"], "none is neither a bundle"),
    "report: no data": (["report", str(BANKED)], "holds no images: name some with --data"),
    "report: data": (["report", "run", "--data", "none"], "data none is not a folder"),
    "report: unfinished": (["report", "unfinished"], "unfinished is not finished"),
    "pretrain: number": (["pretrain", "--data", "nope", "--output", "new.npz", "--batch", "0"], "--batch must be at"),
    "pretrain: data set": (["pretrain", "--data", "nope", "--output", "new.npz"], "unknown data set 'nope'"),
    "pretrain: no npz": (["pretrain", "--data", "npz:none.npz", "--output", "new.npz"], "no file 'none.npz'"),
    "pretrain: preset": (["pretrain", "--preset", "x", "--data", "npz:data.npz", "--output", "new.npz"], "preset 'x'"),
    "pretrain: batch": (
        ["pretrain", "--data", "npz:data.npz", "--output", "new.npz", "--batch", "99"],
        "--batch 99 is more than the 8 training images",
    ),
    "pretrain: start": (
        ["pretrain", "--data", "npz:data.npz", "--output", "new.npz", "--start", "text.npz"],
        "cannot read weights file text.npz",
    ),
    "pretrain: teacher": (
        ["pretrain", "--data", "npz:data.npz", "--output", "new.npz", "--teacher", "vit_micro_32", "--inherit"],
        "--inherit needs a teacher with the student's",
    ),
}


def write_run(folder, data, classes=("blue", "red", "green", "grey"), model=True, **config):
    """A folder that looks like a finished run without a model that could be loaded."""
    folder.mkdir()
    settings = {"dataset": f"npz:{data}", "tasks": 2, **config}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "metrics.json").write_text(json.dumps({"classes": list(classes)}))
    np.savez(folder / "statistics.npz", scatter=np.zeros(1))
    if model:
        with zipfile.ZipFile(folder / "model.keras", "w") as archive:
            archive.writestr("config.json", json.dumps({"config": {"backbone": {"image_size": 32}}}))


@pytest.fixture
def here(tmp_path):
    """The current folder of the cases."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (8, 32, 32, 3), np.uint8), np.arange(8) % 4
    names = np.array(["red", "green", "blue", "grey"])
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:4], "y_test": labels[:4], "class_names": names}
    np.savez(tmp_path / "data.npz", **arrays)
    np.savez(tmp_path / "few.npz", x_train=images)
    for folder in ("empty", "texts/one", "alike/one", "alike/two", "kept/int8"):
        (tmp_path / folder).mkdir(parents=True)
    for number in (1, 2, 3):
        (tmp_path / "texts/one" / f"{number}.png").write_text("this is text\n")
        for name in ("one", "two"):
            Image.fromarray(np.full((32, 32, 3), 9, np.uint8)).save(tmp_path / "alike" / name / f"{number}.png")
    (tmp_path / "text.npz").write_text("this is text\n")
    shutil.copytree(BANKED, tmp_path / "changed")
    (tmp_path / "changed" / "head.tflite").write_bytes(b"0")
    data = tmp_path / "data.npz"
    write_run(tmp_path / "run", data)
    write_run(tmp_path / "modelless", data, model=False)
    write_run(tmp_path / "others", data, classes=("teal", "green", "blue", "grey"))
    write_run(tmp_path / "gone", data)
    record = {"source": f"npz:{tmp_path / 'gone.npz'}", "domains": [], "classes": {}}
    (tmp_path / "gone" / "data.json").write_text(json.dumps(record))
    (tmp_path / "gone" / "config.json").write_text(json.dumps({"dataset": f"npz:{tmp_path / 'gone.npz'}", "tasks": 2}))
    write_run(tmp_path / "unfinished", data)
    (tmp_path / "unfinished" / "metrics.json").unlink()
    return tmp_path


def test_nothing_heavy_is_imported_before_a_refusal(here):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    calls = [[arguments[0], arguments[1:]] for arguments, _ in CASES.values()]
    before = sorted(str(path) for path in here.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", REFUSE],
        input=json.dumps(calls),
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == len(CASES)
    for (case, (_, line)), (code, said, heavy) in zip(CASES.items(), answers):
        error = said.splitlines()[-1]
        assert (case, code, error.startswith("error: "), line in error) == (case, 2, True, True), said
        assert (case, heavy) == (case, [])
    assert sorted(str(path) for path in here.rglob("*")) == before
