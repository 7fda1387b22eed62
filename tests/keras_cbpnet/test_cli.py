"""Command lines: one-line errors, exit codes, help with defaults."""

import errno

import pytest

from firmware_host.bundle import BundleError
from keras_cbpnet.cli import ArgumentParser, run
from keras_cbpnet.errors import UserError


def raises(error):
    def main(argv=None):
        raise error

    return main


@pytest.fixture
def parser():
    parser = ArgumentParser(prog="python -m example")
    parser.add_argument("--tasks", type=int, default=5, help="number of tasks")
    parser.add_argument("--output", help="where the run goes")
    return parser


def test_bad_argument_is_one_line_and_exit_code_2(parser, capsys):
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--tasks", "many"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err == "error: argument --tasks: invalid int value: 'many' (see python -m example --help)\n"


def test_abbreviations_are_refused(parser, capsys):
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--task", "3"])
    assert stop.value.code == 2
    assert "--task" in capsys.readouterr().err


def test_help_shows_defaults_but_not_none(parser):
    text = parser.format_help()
    assert "number of tasks (default: 5)" in text
    assert "None" not in text


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_run_returns_the_commands_code(result, code):
    assert run(lambda argv: result, ["x"]) == code


def test_run_passes_the_arguments_on():
    seen = []
    run(seen.append, ["--seed", "1"])
    assert seen == [["--seed", "1"]]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("3 classes,\n  4 tasks"), "error: 3 classes, 4 tasks"),
        (BundleError("manifest.json changed"), "error: manifest.json changed"),
        (PermissionError(errno.EACCES, "Permission denied", "run/log.csv"), "error: run/log.csv: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(error, line, capsys):
    assert run(raises(error), []) == 2
    assert capsys.readouterr().err == line + "\n"


def test_interrupt_is_130(capsys):
    assert run(raises(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize("error", [ValueError("a defect"), OSError(errno.EIO, "no file named")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run(raises(error), [])
