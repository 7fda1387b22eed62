"""Command lines: one-line errors, exit codes, help with defaults."""

import errno
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

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


def test_a_package_that_is_missing_is_one_line_with_what_to_install(capsys):
    assert run(raises(ModuleNotFoundError("No module named 'PIL'")), []) == 2
    assert capsys.readouterr().err == (
        "error: PIL cannot be imported (No module named 'PIL'): install it with pip install pillow\n"
    )
    assert run(raises(ModuleNotFoundError("No module named 'keras.src'", name="keras.src")), []) == 2
    assert capsys.readouterr().err.endswith('install it with pip install "keras-cbpnet[train]"\n')
    with pytest.raises(ImportError):  # a defect
        run(raises(ImportError("cannot import name 'x'", name="keras_cbpnet.cli")), [])


SCRIPT = """
import sys
from keras_cbpnet import cli

def main(argv):
    with cli.progress_lines(total=1) as progress:
        for step in range(3):
            progress(f"epoch {step}")
    open(sys.argv[1], "w").write("done")
    print("0.5 ± 0.1\\n" * 20000)
    return int(sys.argv[2])

cli.hide_native_output()
sys.exit(cli.run(main))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "streams",
    ["2>&-", "1>&-", "<&- 1>&- 2>&-", "| true", "2>&1 >/dev/null | true", "| head -n 1", "2>/dev/full >/dev/null"],
)
@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_that_of_the_work(tmp_path, streams, code):
    line = f'"$0" -c "$1" "$2" {code} {streams}; echo "code ${{PIPESTATUS[0]}}" >&3'
    done = subprocess.run(
        ["bash", "-c", f"exec 3>code; {line}", sys.executable, SCRIPT, "file"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (tmp_path / "code").read_text() == f"code {code}\n"
    assert (tmp_path / "file").read_text() == "done"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    if "head" in streams:
        assert done.stdout == "0.5 +/- 0.1\n"


def test_a_full_disk_behind_stdout_is_one_line(tmp_path):
    line = '"$0" -c "$1" file 0 >/dev/full'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["epoch 0", "epoch 1", "epoch 2", "error: No space left on device"]
