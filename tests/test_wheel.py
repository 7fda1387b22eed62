"""The wheel: what is in it, and that its console commands do everything without the checkout."""

import configparser
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.wheel import PACKAGES, build_wheel, environment, pip

from firmware_host.shared.version import __version__

pytestmark = pytest.mark.slow  # builds, and where setuptools is old asks the package index for a newer one
DOCUMENTS = {".md"}  # beside the sources, and not installed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel's files and console commands alone."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


@pytest.fixture
def call(installed, tmp_path):
    """call(command, arguments...): run a console command of the wheel in an empty folder; its result."""

    def call(command, *arguments, code=0):
        done = subprocess.run(
            [installed / "bin" / command, *map(str, arguments)],
            cwd=tmp_path,
            env=environment(installed),
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == code, done.stderr
        return done

    return call


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    found = {name for name in names if name.parts[0] in PACKAGES}
    source = wheel.parent / "source"
    sources = {
        path.relative_to(source)
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file() and path.suffix not in DOCUMENTS
    }
    assert found == sources
    assert {Path("keras_cbpnet/convert.py"), Path("keras_cbpnet/weights/vit_nano_32.npz")} <= found
    information = f"keras_cbpnet-{__version__}.dist-info"
    assert {name.parts[0] for name in names} == {*PACKAGES, information}
    assert {f"{information}/licenses/{name}" for name in ("LICENSE", "NOTICE")} <= set(map(str, names))


def test_the_wheel_names_both_console_commands(wheel):
    entries = configparser.ConfigParser()
    text = zipfile.ZipFile(wheel).read(f"keras_cbpnet-{__version__}.dist-info/entry_points.txt")
    entries.read_string(text.decode())
    assert dict(entries["console_scripts"]) == {
        "cbpnet": "firmware_host.__main__:main",
        "keras-cbpnet": "keras_cbpnet.__main__:console",
    }


def test_the_commands_of_the_wheel_train_convert_and_learn(installed, call, tmp_path):
    code = "import firmware_host, keras_cbpnet; print(firmware_host.__file__); print(keras_cbpnet.__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(installed), capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == [str(installed / name / "__init__.py") for name in reversed(PACKAGES)]

    assert call("keras-cbpnet", "--version").stdout.startswith(f"keras-cbpnet {__version__} ")
    assert call("cbpnet", "--version").stdout.startswith(f"cbpnet {__version__} ")
    options = ["--method", "ncm", "--tasks", "5", "--device-tasks", "2", "--preset", "vit_micro_32", "--no-qat"]
    done = call("keras-cbpnet", "train", *options, "--epochs", "1", "--output", "run")
    assert done.stdout.splitlines()[-1] == "next: keras-cbpnet convert run"
    done = call("keras-cbpnet", "convert", "run", "--output", "bundle", "--recipe", "float32")
    assert done.stdout.splitlines()[-1] == "next: cbpnet selftest bundle"
    assert call("cbpnet", "selftest", "bundle").stdout.startswith("ok (")
    assert len(json.loads(call("cbpnet", "info", "bundle", "--json").stdout)["classes"]) == 6
    assert call("keras-cbpnet", "convert", "run", "--output", "bundle", code=2).stderr.count("\n") == 1
    assert call("cbpnet", "learn", "bundle", "nothing", code=2).stderr.count("\n") == 1
