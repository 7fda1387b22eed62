"""`--version` of both console commands, and the one place where the version is kept."""

import importlib.machinery
import importlib.metadata
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from firmware_host import cli as device
from firmware_host.bundle import SCHEMA_VERSION, STATE_SCHEMA_VERSION, contract
from firmware_host.shared import runtimes
from firmware_host.shared.version import __version__
from keras_cbpnet import __main__ as host


def printed(main, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    return out.splitlines()


def test_the_host_tells_version_schemas_and_runtimes(capsys, monkeypatch):
    schemas = f"(bundle schema {SCHEMA_VERSION}, state schema {STATE_SCHEMA_VERSION})"
    first, second = printed(host.main, capsys)
    assert first == f"keras-cbpnet {__version__} {schemas}"
    release = importlib.metadata.version
    assert second.startswith(f"runtimes: keras {release('keras')}, tensorflow {release('tensorflow')}, ai_edge_litert ")
    for name, number in (("__version__", "7.8.9"), ("SCHEMA_VERSION", 5), ("STATE_SCHEMA_VERSION", 6)):
        monkeypatch.setattr(contract, name, number)
    monkeypatch.setattr(runtimes, "installed_runtimes", lambda: {"numpy": "1.26.4"})
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    assert printed(host.main, capsys) == [
        "keras-cbpnet 7.8.9 (bundle schema 5, state schema 6)",
        "runtimes: numpy 1.26.4",
    ]


def test_the_device_tells_the_runtimes_too_on_a_line_that_no_terminal_breaks(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    found = {"ai_edge_litert": "2.3.0", "numpy": "1.26.4", "tflm": ""}
    monkeypatch.setattr(runtimes, "installed_runtimes", lambda: found)
    first, second = printed(device.main, capsys)
    assert first == f"cbpnet {__version__} (bundle schema {SCHEMA_VERSION}, state schema {STATE_SCHEMA_VERSION})"
    assert second == "runtimes: ai_edge_litert 2.3.0, numpy 1.26.4, tflm"


def test_installed_runtimes_are_those_whose_package_is_found(monkeypatch):
    there = {"tflite_runtime": "2.14.0", "numpy": "1.26.4", "tflite_micro": None}
    spec = importlib.machinery.ModuleSpec("found", None)
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: spec if name in there else None)

    def release(name):
        if there[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(runtimes.importlib.metadata, "version", release)
    assert runtimes.installed_runtimes() == {"tflite_runtime": "2.14.0", "numpy": "1.26.4", "tflm": ""}
    assert runtimes.installed_interpreters() == ("tflite_runtime",)


@pytest.mark.parametrize("module", ["keras_cbpnet", "firmware_host"])
def test_telling_the_version_imports_no_runtime(module):
    code = (
        f"import runpy, sys\nsys.argv[1:] = ['--version']\n"
        f"try:\n    runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'ai_edge_litert', 'keras', 'tensorflow', 'tflite_micro', 'tflite_runtime'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert lines[0].split()[1] == __version__, done.stderr
    assert lines[-1] == "[]"
    if module == "firmware_host":
        assert f"numpy {importlib.metadata.version('numpy')}" in lines[1]


def test_the_version_is_written_once_in_the_packages():
    files = [path for name in ("keras_cbpnet", "firmware_host") for path in (ROOT / name).rglob("*.py")]
    holding = [path.relative_to(ROOT) for path in files if f'"{__version__}"' in path.read_text(encoding="utf-8")]
    assert [str(path) for path in holding] == [os.path.join("firmware_host", "shared", "version.py")]
