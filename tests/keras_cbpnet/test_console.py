"""The console command `keras-cbpnet`: it finds its commands, imports nothing heavy, and refuses in one line."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from keras_cbpnet import cli
from keras_cbpnet.__main__ import COMMANDS, main

HEAVY = ("keras", "tensorflow", "tensorflow_model_optimization", "tf_keras", "sklearn")


def in_a_process(code, *arguments, cwd=ROOT):
    """Run Python code with the checkout on the path."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def said(arguments, capsys):
    """Return what a call prints that ends with SystemExit or a code: code, stdout, stderr."""
    try:
        code = cli.run(main, arguments)
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def words(text):
    return " ".join(text.split())


def test_help_names_every_command(capsys):
    code, out, err = said(["--help"], capsys)
    assert (code, err) == (0, "")
    for name, command in COMMANDS.items():
        assert re.search(rf"^ +{name} +{command.help}$", out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("order", ["after", "before"])
def test_the_help_of_a_command_is_its_own_under_the_name_that_was_called(name, order, capsys):
    code, out, err = said([name, "--help"] if order == "after" else ["--help", name], capsys)
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: keras-cbpnet {name} [-h]")
    parser = importlib.import_module(COMMANDS[name].module).build_parser()
    assert parser.prog == f"python -m keras_cbpnet.{name}"
    for option in parser._option_string_actions:
        assert option in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: COMMAND (see keras-cbpnet --help)"),
        (["trian", "--seed", "1"], "argument COMMAND: invalid choice: 'trian' (choose from"),
        (["--colour"], "the following arguments are required: COMMAND (see keras-cbpnet --help)"),
        (["train", "--epochs", "many"], "argument --epochs: invalid int value: 'many' (see keras-cbpnet train --help)"),
        (["convert"], "the following arguments are required: RUN (see keras-cbpnet convert --help)"),
        (["convert", "nothing"], "nothing is not a run folder"),
        (["pretrain", "--json"], "the following arguments are required: --data, --output (see keras-cbpnet pretrain"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    code, out, err = said(arguments, capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["--help", "train --help", "convert --help", "pretrain --help", "trian"])
def test_nothing_heavy_is_imported_before_it_is_needed(arguments):
    code = (
        "import sys\nfrom keras_cbpnet.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print(sorted(set(sys.modules) & set({HEAVY})), file=sys.stderr)"
    )
    done = in_a_process(code, *arguments.split())
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["train", "convert run", "pretrain --data digits --output weights.npz"])
@pytest.mark.parametrize("missing", ["keras", "tensorflow"])
def test_without_the_extra_it_says_how_to_install_it(arguments, missing, tmp_path):
    (tmp_path / "run").mkdir()
    code = (  # a finder that knows no such package, as where it is not installed
        "import sys\nclass Nothing:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Nothing())\nfrom keras_cbpnet.__main__ import console\nsys.exit(console())"
    )
    done = in_a_process(code, *arguments.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {missing} is not installed; pip install 'keras-cbpnet[train]'\n"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_the_script_of_the_checkout_is_the_same_command(tmp_path):
    script = [sys.executable, ROOT / "tflite" / "convert.py"]
    done = subprocess.run([*script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    shown = "usage: python tflite/convert.py [-h]"
    assert done.stdout.startswith(shown)
    module = in_a_process("from keras_cbpnet.convert import main; main()", "--help").stdout
    assert words(done.stdout) == words(module).replace("python -m keras_cbpnet.convert", "python tflite/convert.py")
    done = subprocess.run([*script, "nothing"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (2, "error: nothing is not a run folder: it has no config.json\n")


def test_a_command_to_copy_has_the_name_of_the_door():
    assert cli.MODULES.keys() == cli.CONSOLE.keys()
    for name in COMMANDS:
        assert cli.MODULES[name] == f"python -m {COMMANDS[name].module}"
        assert importlib.util.find_spec(COMMANDS[name].module)
        assert cli.CONSOLE[name] == f"keras-cbpnet {name}"


@pytest.mark.parametrize("console", [True, False])
def test_a_training_ends_with_the_conversion_to_copy(console, capsys, tmp_path, monkeypatch):
    from keras_cbpnet.train import main as train

    metrics = {"average_accuracy": 0.5, "forgetting": 0.0}
    monkeypatch.setattr("keras_cbpnet.api.read_inputs", lambda *_: None)
    monkeypatch.setattr("keras_cbpnet.training.trainer.train_on", lambda *_: metrics)
    arguments = ["--dataset", "digits", "--output", str(tmp_path / "a run")]
    code = main(["train", *arguments]) if console else train(arguments)
    start = "keras-cbpnet convert" if console else "python -m keras_cbpnet.convert"
    assert (code, capsys.readouterr().out.splitlines()[-1]) == (0, f"next: {start} '{tmp_path / 'a run'}'")
