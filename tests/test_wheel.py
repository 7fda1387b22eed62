"""Sdist and wheel: what is in them, and that the wheel's console commands do everything without the checkout."""

import configparser
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers.wheel import FILES, PACKAGES, build, environment, pip, tool

from firmware_host.shared.version import __version__

pytestmark = pytest.mark.slow  # builds, and where setuptools is old asks the package index for a newer one
DOCUMENTS = {".md"}  # beside the sources, and not installed
WEIGHTS_MB = 16  # at most
SHELLS = {
    "share/bash-completion/completions/{}": "{}",
    "share/zsh/site-functions/_{}": "_{}",
    "share/fish/vendor_completions.d/{}.fish": "{}.fish",
}
COMMANDS = ("keras-cbpnet", "cbpnet")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel(built):
    return built.wheel


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


def sources(source):
    """Return what the packages consist of, relative to the folder that was built from."""
    return {
        path.relative_to(source)
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file() and path.suffix not in DOCUMENTS
    }


def test_the_sdist_holds_what_the_wheel_is_built_from(built):
    root = f"keras_cbpnet-{__version__}"
    with tarfile.open(built.sdist) as file:
        names = {Path(name).relative_to(root) for name in file.getnames() if file.getmember(name).isfile()}
    completions = {Path("completions", name.format(command)) for name in SHELLS.values() for command in COMMANDS}
    made = {name for name in names if name.parts[0] in ("PKG-INFO", "setup.cfg", "keras_cbpnet.egg-info")}
    assert names - made == {*sources(built.source), *map(Path, FILES), *completions}


def test_twine_finds_nothing_wrong(built):
    assert tool("twine", "check", "--strict", built.sdist, built.wheel).count("PASSED") == 2


def test_the_wheel_holds_the_packages_and_nothing_else(built):
    wheel = built.wheel
    names = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    found = {name for name in names if name.parts[0] in PACKAGES}
    assert found == sources(built.source)
    assert {Path("keras_cbpnet/convert.py"), Path("keras_cbpnet/weights/vit_nano_32.npz")} <= found
    information = f"keras_cbpnet-{__version__}.dist-info"
    data = f"keras_cbpnet-{__version__}.data"
    assert {name.parts[0] for name in names} == {*PACKAGES, information, data}
    shipped = {Path(data, "data", place.format(command)) for place in SHELLS for command in COMMANDS}
    assert {name for name in names if name.parts[0] == data} == shipped
    weights = [entry.file_size for entry in zipfile.ZipFile(wheel).infolist() if "/weights/" in entry.filename]
    assert 1e6 < sum(weights) <= WEIGHTS_MB * 1e6
    assert {f"{information}/licenses/{name}" for name in ("LICENSE", "NOTICE")} <= set(map(str, names))


def test_the_wheel_names_both_console_commands(wheel):
    entries = configparser.ConfigParser()
    text = zipfile.ZipFile(wheel).read(f"keras_cbpnet-{__version__}.dist-info/entry_points.txt")
    entries.read_string(text.decode())
    assert dict(entries["console_scripts"]) == {
        "cbpnet": "firmware_host.__main__:main",
        "keras-cbpnet": "keras_cbpnet.__main__:console",
    }


def test_bash_completes_with_what_the_wheel_installed(installed):
    file = installed / "share" / "bash-completion" / "completions" / "cbpnet"
    line = f"source '{file}'; complete -p cbpnet"
    done = subprocess.run(["bash", "--norc", "-c", line], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" cbpnet\n")


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
