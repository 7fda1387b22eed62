"""The project's wheel, built from the files of the checkout."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

PACKAGES = ("keras_cbpnet", "firmware_host")
OFFLINE = re.compile(r"Temporary failure in name resolution|Network is unreachable|ConnectTimeout|NewConnectionError")
NEEDED = 77  # release of setuptools that pyproject.toml asks for


def pip(*arguments, python=sys.executable):
    """Run pip; skip the test where the package index cannot be reached."""
    command = [python, "-m", "pip", *map(str, arguments), "-q", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode and OFFLINE.search(done.stdout + done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr


def build_wheel(folder: Path) -> Path:
    """Build the wheel in `folder` from a copy in its `source`; the package index is asked if setuptools is old."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "helpers", source / "tests")  # must not get into it
    release = int(importlib.metadata.version("setuptools").partition(".")[0])
    isolation = ["--no-build-isolation"] if release >= NEEDED else []
    pip("wheel", "--no-deps", *isolation, "--wheel-dir", folder, source)
    [wheel] = folder.glob("*.whl")
    return wheel


def environment(installed: Path) -> dict[str, str]:
    """Return the variables of a process that finds the packages in `installed` before those of the checkout."""
    return {**os.environ, "PYTHONPATH": str(installed)}
