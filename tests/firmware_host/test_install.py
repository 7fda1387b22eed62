"""The wheel in a clean environment of every Python found here: the `device` extra brings all that a self-test needs.

What needs the `train` extra says so.

Takes minutes and the package index; `make test-install` runs it.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.wheel import build_wheel, pip

from firmware_host.shared.version import __version__

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
# numpy, Pillow, the runtime and what the runtime's own releases ask for; the environment's own tools
RUNTIME_NEEDS = {"backports-strenum", "flatbuffers", "ml-dtypes", "protobuf", "tqdm", "typing-extensions"}
ALLOWED = {"keras-cbpnet", "numpy", "pillow", "ai-edge-litert", "pip", "setuptools", *RUNTIME_NEEDS}


def find_python(version):
    """An interpreter of that version with venv: on the path, or one that pyenv made."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))):
        code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
        done = python and subprocess.run([python, "-c", code], capture_output=True, text=True)
        if done and done.stdout.strip() == version:
            return str(python)
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
@pytest.mark.skipif("TEST_INSTALL" not in os.environ, reason="installs from the package index: make test-install")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_runs_the_selftest(wheel, pristine_bundle, tmp_path, version):
    found = find_python(version)
    if found is None:
        pytest.skip(f"no Python {version} with venv here")
    subprocess.run([found, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=120)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip("install", f"{wheel}[device]", python=python)
    done = subprocess.run([python, "-m", "pip", "list", "--format", "freeze"], capture_output=True, text=True)
    installed = {line.split("==")[0].lower().replace("_", "-").replace(".", "-") for line in done.stdout.split()}
    assert installed <= ALLOWED
    run = [python, "-m", "firmware_host"]
    selftest = [*run, "selftest", str(pristine_bundle), "--runtime", "numpy"]
    done = subprocess.run(selftest, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("ok (numpy)"), done.stderr
    scripts = tmp_path / "venv" / "bin"
    done = subprocess.run([scripts / "cbpnet", "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    release, runtimes = done.stdout.splitlines()
    assert release.startswith(f"cbpnet {__version__} ")
    assert runtimes.startswith("runtimes: ai_edge_litert ")
    train = [scripts / "keras-cbpnet", "train"]
    done = subprocess.run(train, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: keras is not installed; pip install 'keras-cbpnet[train]'\n"
    code = "import time; t = time.process_time(); import firmware_host; print(time.process_time() - t)"
    times = [float(subprocess.check_output([python, "-c", code], cwd=tmp_path)) for _ in range(3)]
    assert min(times) < 0.3
