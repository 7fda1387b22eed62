"""The project's distributions, built from the files of the checkout: the sdist, and the wheel from that."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.paths import ROOT

PACKAGES = ("keras_cbpnet", "firmware_host")
FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "MANIFEST.in")
OFFLINE = re.compile(r"Temporary failure in name resolution|Network is unreachable|ConnectTimeout|NewConnectionError")
NEEDED = 77  # release of setuptools that pyproject.toml asks for


class Distributions(NamedTuple):
    """Paths of the two files, and of the folder that they were built from."""

    sdist: Path
    wheel: Path
    source: Path


def tool(*arguments, python=sys.executable, timeout=300):
    """Run `python -m ARGUMENTS`, which must succeed; skip the test where the package index cannot be reached."""
    done = subprocess.run([python, "-m", *map(str, arguments)], capture_output=True, text=True, timeout=timeout)
    if done.returncode and OFFLINE.search(done.stdout + done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments, python=sys.executable, timeout=300):
    """Run pip as `tool` does."""
    return tool("pip", *arguments, "-q", "--disable-pip-version-check", python=python, timeout=timeout)


def build(folder: Path) -> Distributions:
    """Build in `folder` from a copy in its `source`; the package index is asked if setuptools is old."""
    source = folder / "source"
    source.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    for name in (*PACKAGES, "completions"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "helpers", source / "tests")  # must not get into it
    release = int(importlib.metadata.version("setuptools").partition(".")[0])
    isolation = ["--no-isolation"] if release >= NEEDED else []
    tool("build", *isolation, "--outdir", folder, source)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Distributions(sdist, wheel, source)


def environment(installed: Path) -> dict[str, str]:
    """Return the variables of a process that finds the packages in `installed` before those of the checkout."""
    return {**os.environ, "PYTHONPATH": str(installed)}
