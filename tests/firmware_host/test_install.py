"""The wheel alone, in clean environments: one trains and converts, one of every Python found here learns on.

Nothing of the checkout is in reach of them. Takes minutes and the package index; `make test-install` runs it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.wheel import build, pip

from firmware_host.shared.version import __version__

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
HOST = "3.11"
# numpy, Pillow, the runtime and what the runtime's own releases ask for; the environment's own tools
RUNTIME_NEEDS = {"backports-strenum", "flatbuffers", "ml-dtypes", "protobuf", "tqdm", "typing-extensions"}
ALLOWED = {"keras-cbpnet", "numpy", "pillow", "ai-edge-litert", "pip", "setuptools", *RUNTIME_NEEDS}
DIGITS = """
import numpy as np
from keras_cbpnet.data.sources import load_dataset
d = load_dataset("digits", 8)
parts = {name: getattr(d, name) for name in ("x_train", "y_train", "x_test", "y_test", "class_names")}
np.savez("digits.npz", **parts)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("TEST_INSTALL" not in os.environ, reason="installs from the package index: make test-install"),
]


def find_python(version):
    """An interpreter of that version with venv: on the path, or one that pyenv made."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))):
        code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
        done = python and subprocess.run([python, "-c", code], capture_output=True, text=True)
        if done and done.stdout.strip() == version:
            return str(python)
    return None


class Environment:
    """A clean environment with the wheel and one of its extras; its commands run in a folder of their own."""

    def __init__(self, version, wheel, extra, folder):
        found = find_python(version)
        if found is None:
            pytest.skip(f"no Python {version} with venv here")
        self.folder, self.scripts = folder / "work", folder / "venv" / "bin"
        self.folder.mkdir()
        subprocess.run([found, "-m", "venv", str(folder / "venv")], check=True, timeout=120)
        pip("install", f"{wheel}[{extra}]", python=str(self.scripts / "python"), timeout=1800)

    def __call__(self, command, *arguments, code=0):
        """Run a command of the environment, which must end with `code`; return its output, on stderr if it fails."""
        done = subprocess.run(
            [self.scripts / command, *map(str, arguments)],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(tmp_path_factory.mktemp("wheel")).wheel


@pytest.fixture(scope="module")
def host(wheel, tmp_path_factory):
    """An environment for training, with a bundle that lacks two digits, in `bundle`, and all digits in digits.npz."""
    host = Environment(HOST, wheel, "train", tmp_path_factory.mktemp("host"))
    options = ["--preset", "vit_micro_32", "--no-prompts", "--no-qat", "--tasks", "5", "--device-tasks", "1"]
    printed = host("keras-cbpnet", "train", *options, "--epochs", "1", "--head-epochs", "1", "--output", "run")
    assert printed.splitlines()[-1] == "next: keras-cbpnet convert run"
    printed = host("keras-cbpnet", "convert", "run", "--output", "bundle")
    assert printed.splitlines()[-1] == "next: cbpnet selftest bundle"
    host("python", "-c", DIGITS)
    return host


def learn_on(device, runtime=()):
    """Go on learning in an environment whose folder has a bundle and all digits; return the accuracy."""
    assert device("cbpnet", "selftest", "bundle", *runtime).startswith("ok (")
    assert len(json.loads(device("cbpnet", "info", "bundle", "--json"))["classes"]) == 8
    learned = json.loads(device("cbpnet", "learn", "bundle", "npz:digits.npz", "--epochs", "1", "--json", *runtime))
    assert len(learned["new_classes"]) == 2
    found = json.loads(device("cbpnet", "evaluate", "bundle", "npz:digits.npz", "--json", *runtime))
    assert len(json.loads(device("cbpnet", "state", "bundle", "undo", "--json", *runtime))["classes"]) == 8
    return found["accuracy"]


def test_the_host_trains_converts_and_learns(host):
    code = "import firmware_host, keras_cbpnet as k; print(k.__file__); print(firmware_host.__file__)"
    for line in host("python", "-c", code).splitlines():
        assert Path(line).is_relative_to(host.scripts.parent)
    release, runtimes = host("keras-cbpnet", "--version").splitlines()
    assert release.startswith(f"keras-cbpnet {__version__} ")
    assert runtimes.startswith("runtimes: keras 3.")
    assert learn_on(host) > 0.85
    host("keras-cbpnet", "freeze", "bundle", "frozen", "--state", "bundle.state")
    assert len((host.folder / "frozen" / "labelmap.txt").read_text().splitlines()) == 8
    assert (host.folder / "frozen" / "model.tflite").stat().st_size > 100_000
    assert (host.scripts.parent / "share" / "zsh" / "site-functions" / "_keras-cbpnet").is_file()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_device_learns_on(wheel, host, tmp_path, version):
    device = Environment(version, wheel, "device", tmp_path)
    listed = device("python", "-m", "pip", "list", "--format", "freeze").split()
    installed = {line.split("==")[0].lower().replace("_", "-").replace(".", "-") for line in listed}
    assert installed <= ALLOWED
    shutil.copytree(host.folder / "bundle", device.folder / "bundle")
    shutil.copy(host.folder / "digits.npz", device.folder)
    release, runtimes = device("cbpnet", "--version").splitlines()
    assert release.startswith(f"cbpnet {__version__} ")
    assert runtimes.startswith("runtimes: ai_edge_litert ")
    assert learn_on(device) > 0.85
    said = device("keras-cbpnet", "train", code=2)
    assert said == "error: keras is not installed; pip install 'keras-cbpnet[train]'\n"
    code = "import time; t = time.process_time(); import firmware_host; print(time.process_time() - t)"
    assert min(float(device("python", "-c", code)) for _ in range(3)) < 0.3
