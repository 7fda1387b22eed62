"""An environment that lacks or mixes packages: one line with the pip command that mends it."""

import builtins
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

from firmware_host.bundle import DeviceError
from firmware_host.cli import main
from firmware_host.engines.find import find_runtime
from firmware_host.shared.packages import missing_package, need_pillow


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (ModuleNotFoundError("No module named 'PIL'", name="PIL"), "pip install pillow"),
        (ModuleNotFoundError("No module named 'PIL'"), "pip install pillow"),
        (ImportError("cannot import name '_imaging' from 'PIL'", name="PIL._imaging"), "pip install pillow"),
        (ModuleNotFoundError("No module named 'sklearn'", name="sklearn"), "pip install scikit-learn"),
        (ModuleNotFoundError("No module named 'tqdm'", name="tqdm"), "pip install tqdm"),
        (ModuleNotFoundError("No module named 'keras'", name="keras"), 'pip install "keras-cbpnet[train]"'),
    ],
)
def test_the_line_names_the_command(error, command):
    line = missing_package(error)
    assert line.endswith(f"install it with {command}")
    assert str(error) in line


def test_a_module_of_ours_that_is_missing_is_a_defect():
    with pytest.raises(ModuleNotFoundError):
        missing_package(ModuleNotFoundError("No module named 'firmware_host.x'", name="firmware_host.x"))


def test_a_package_that_is_there_and_does_not_work(monkeypatch):
    damaged = ImportError("bad magic number")
    assert missing_package(damaged).endswith("(bad magic number): install it again with pip install --force-reinstall")
    mixed = ImportError("numpy.core.multiarray failed to import")
    monkeypatch.setattr(np, "__version__", "2.1.3")
    assert missing_package(mixed).endswith('(numpy.core.multiarray failed to import): pip install "numpy<2"')
    monkeypatch.setattr(np, "__version__", "1.26.4")
    assert "install it again" in missing_package(mixed)


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
def test_no_command_needs_pillow_but_those_that_read_images(make, bundle, tmp_path, named):
    data = make.folder_of_images(tmp_path / "data", names=("red",), each=2)
    (tmp_path / "block").mkdir()
    name = ", name='PIL'" if named else ""
    (tmp_path / "block" / "PIL.py").write_text(f"raise ModuleNotFoundError(\"No module named 'PIL'\"{name})")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "firmware_host", *map(str, arguments), "--runtime", "numpy"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "block")},
            capture_output=True,
            text=True,
            timeout=60,
        )

    line = "error: reading images needs Pillow (No module named 'PIL'): install it with pip install --upgrade pillow\n"
    for command in ("learn", "evaluate"):
        done = run(command, bundle, data)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    done = run("predict", bundle, data / "red" / "0.png")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    for command in ("info", "selftest", "state"):
        assert run(command, bundle).returncode == 0


def test_numpy_2_under_a_runtime_that_was_built_for_numpy_1(monkeypatch, capfd):
    monkeypatch.setattr(np, "__version__", "2.1.3")

    def fails(name):
        sys.stderr.write("A module that was compiled using NumPy 1.x cannot be run in NumPy 2.1.3\n")
        raise ImportError("numpy.core.multiarray failed to import")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("importlib.import_module", fails)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with pytest.raises(DeviceError, match=r'tflite_runtime needs NumPy 1, here is NumPy 2.1.3: pip install "numpy<2"'):
        find_runtime("tflite_runtime")
    assert capfd.readouterr().err == ""
    with pytest.raises(DeviceError, match=r'ai_edge_litert does not import \(numpy.core.*pip install "keras-cbpnet'):
        find_runtime("ai_edge_litert")


def test_opencv_that_is_missing_is_named(bundle, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.avi").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert main(["predict", str(bundle), "--source", f"video:{tmp_path / 'a.avi'}", "--runtime", "numpy"]) == 2
    assert 'pip install "keras-cbpnet[video]"' in capsys.readouterr().err


def test_numpy_that_is_missing_is_one_line(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')")
    done = subprocess.run(
        [sys.executable, "-m", "firmware_host", "info", "BUNDLE"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    line = "error: numpy cannot be imported (No module named 'numpy'): install it with pip install numpy\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        (
            "IMPORTANT: READ THIS!\n'numpy' ...\nOriginal error was: libopenblas.so.0: {}",
            "sudo apt install libopenblas0",
        ),
        ("libopenjp2.so.7: {}", "sudo apt install libopenjp2-7"),
        ("libtiff.so.6: {}", "sudo apt install libtiff6"),
        ("libodd-x.so: {}", "install the system's package that has this library"),
    ],
)
def test_a_library_of_the_system_that_is_missing(reason, remedy, monkeypatch):
    error = ImportError(reason.format("cannot open shared object file: No such file or directory"))
    line = missing_package(error)
    assert line.endswith(remedy)
    assert line.startswith("a package cannot be imported (lib")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)  # whatever the tests have loaded

    def fails(name, *rest):
        if name == "PIL.Image":
            raise error
        return original(name, *rest)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(DeviceError, match=f"reading images needs Pillow .*{remedy}$"):
        need_pillow()
